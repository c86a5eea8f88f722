import Cases
import Goldens
import JSON
import ModelSpec
import Platform
import Reference

/// Makes a failing case smaller while it fails and the reference still answers it: the sizes of every named dimension, the recipe,
/// then the elements. Takes the same steps every time.
struct Shrinker {
    private let generator: CaseGenerator
    private let original: GoldenCase
    private let fault: FuzzFault
    private let judge: (GoldenCase) async throws -> FuzzFault?
    private let progress: (Int) -> Void

    /// How often the implementation may be asked.
    private let limit: Int
    /// How often it was.
    private(set) var attempts = 0
    /// How often a candidate was tried, the ones that the reference refuses among them.
    private var candidates = 0
    private var seen: Set<Draft> = []

    private(set) var best: Draft
    private(set) var bestCase: GoldenCase
    private(set) var bestFault: FuzzFault

    /// - Parameters:
    ///   - failing: with the reference's outputs.
    ///   - progress: is told the number of attempts before each.
    ///   - judge: what is wrong with the implementation's answer to a case that the reference has answered; nil if nothing is.
    init(
        _ failing: GoldenCase, _ fault: FuzzFault, generator: CaseGenerator, limit: Int,
        progress: @escaping (Int) -> Void, judge: @escaping (GoldenCase) async throws -> FuzzFault?
    ) {
        self.progress = progress
        (self.generator, original, self.fault, self.limit, self.judge) = (generator, failing, fault, limit, judge)
        best = Draft(failing.recipe, failing.inputs.tensors.map { ($0.name, $0.tensor) })
        (bestCase, bestFault) = (failing, fault)
        seen.insert(best)
    }

    /// Takes steps until none makes the case smaller, or the limit is reached.
    mutating func run() async throws {
        var isSmaller = true
        while isSmaller && !isExhausted {
            isSmaller = false
            if try await shrinkSizes() { isSmaller = true }
            if try await dropInputs() { isSmaller = true }
            if try await shrinkRecipe() { isSmaller = true }
            if try await shrinkElements() { isSmaller = true }
        }
    }

    /// A signal ends it as the limit does: what was found so far stays.
    private var isExhausted: Bool { attempts >= limit || candidates >= 20 * limit || Interruption.isRequested }

    /// Takes a candidate if it is valid, new, and fails in the same way.
    private mutating func takes(_ candidate: Draft) async throws -> Bool {
        guard !isExhausted else { return false }
        var draft = candidate
        generator.repair(&draft)
        guard seen.insert(draft).inserted else { return false }
        candidates += 1
        var goldenCase = original
        (goldenCase.recipe, goldenCase.inputs, goldenCase.outputs) = (draft.recipe, draft.inputs, [])
        guard let answered = try? OperationCatalog.evaluate(goldenCase) else { return false }
        attempts += 1
        progress(attempts)
        let found: FuzzFault?
        do { found = try await judge(answered) } catch is Interrupted { return false }
        guard let found, found.failure?.kind == fault.failure?.kind, found.difference == fault.difference else {
            return false
        }
        (best, bestCase, bestFault) = (draft, answered, found)
        return true
    }

    // MARK: Sizes

    private mutating func shrinkSizes() async throws -> Bool {
        var isSmaller = false
        let letters = Set(generator.shapes(best).values.joined()).filter { !$0.isEmpty && Int($0) == nil }
        for letter in letters.sorted() {
            var chunk = size(letter)
            while chunk >= 1 && !isExhausted {
                var first = 0
                while first < size(letter) && !isExhausted {
                    if try await takes(removing(first..<min(size(letter), first + chunk), of: letter)) {
                        isSmaller = true
                    } else {
                        first += chunk
                    }
                }
                chunk = chunk == 1 ? 0 : (min(chunk, size(letter)) + 1) / 2
                if size(letter) == 0 { break }
            }
        }
        return isSmaller
    }

    private func size(_ letter: String) -> Int {
        let shapes = generator.shapes(best)
        for named in best.inputs.tensors {
            if let shape = shapes[named.name], let axis = shape.firstIndex(of: letter), axis < named.tensor.shape.count
            {
                return named.tensor.shape[axis]
            }
        }
        return 0
    }

    private func removing(_ range: Range<Int>, of letter: String) -> Draft {
        var draft = best
        let shapes = generator.shapes(best)
        for named in best.inputs.tensors {
            guard let shape = shapes[named.name], shape.count == named.tensor.shape.count else { continue }
            var tensor = named.tensor
            for (axis, symbol) in shape.enumerated() where symbol == letter {
                tensor = tensor.keeping((0..<tensor.shape[axis]).filter { !range.contains($0) }, axis: axis)
            }
            draft.replace(named.name, tensor)
        }
        return draft
    }

    private mutating func dropInputs() async throws -> Bool {
        var isSmaller = false
        for name in best.inputs.names {
            var draft = best
            draft.drop(name)
            if try await takes(draft) { isSmaller = true }
        }
        return isSmaller
    }

    // MARK: Recipe

    private mutating func shrinkRecipe() async throws -> Bool {
        var isSmaller = false
        for key in best.recipe.keys.sorted() {
            for value in simpler(key) {
                var draft = best
                guard draft.recipe[key] != nil else { break }
                if draft.recipe[key + "_bits"] != nil || key.hasSuffix("_bits") {
                    let name = key.hasSuffix("_bits") ? String(key.dropLast(5)) : key
                    guard case .number(let number)? = value else { continue }
                    draft.recipe = draft.recipe + entries(name, Float(number))
                } else {
                    draft.recipe[key] = value
                }
                if try await takes(draft) {
                    isSmaller = true
                    break
                }
            }
        }
        return isSmaller
    }

    /// Simpler values of a key, the simplest first; nil: without the key.
    private func simpler(_ key: String) -> [JSONValue?] {
        // The constants of Q3 follow the case.
        if best.recipe["n"] != nil && ["kappa", "kappa_bits", "n"].contains(key) { return [] }
        switch best.recipe[key] {
        case .bool(true)?: return [.bool(false)]
        case .integer(let value)?:
            guard value > 0 else { return [] }
            let candidates = [0, 1, 2, value / 2, value - 1].filter { $0 < value }
            let optional: [JSONValue?] = key == "window" ? [nil] : []
            return optional + Array(Set(candidates)).sorted().map { .integer($0) }
        case .string(let text)?:
            if key.hasSuffix("_bits"), text.count == 8, let bits = UInt32(text, radix: 16) {
                // Where the number stands beside it, that entry does it for both.
                if best.recipe[String(key.dropLast(5))] != nil { return [] }
                return Self.simpler(.fp32, UInt64(bits)).map { .number(Double(Float(bitPattern: UInt32($0)))) }
            }
            if text.count == 16, UInt64(text, radix: 16) != nil {
                return text == hexadecimal(0, digits: 16) ? [] : [.string(hexadecimal(0, digits: 16))]
            }
            // In the order of the table, the simplest first.
            return generator.choices(of: key).prefix { $0 != text }.map { .string($0) }
        case .number(let number)?:
            return Self.simpler(.fp32, UInt64(Float(number).bitPattern))
                .map { Float(bitPattern: UInt32($0)) }.filter(\.isFinite).map { .number(Double($0)) }
        case .array(let list)? where !list.isEmpty:
            var candidates: [JSONValue?] = [.array([])]
            for index in list.indices where list[index] != .integer(0) {
                var changed = list
                changed[index] = .integer(0)
                candidates.append(.array(changed))
            }
            return candidates
        default: return []
        }
    }

    // MARK: Elements

    private mutating func shrinkElements() async throws -> Bool {
        var isSmaller = false
        for name in best.inputs.names {
            // Zeros in ever smaller pieces.
            guard var tensor = best.inputs[name] else { continue }
            var chunk = tensor.count
            while chunk >= 1 && !isExhausted {
                for first in stride(from: 0, to: tensor.count, by: chunk) {
                    let range = first..<min(tensor.count, first + chunk)
                    guard range.contains(where: { tensor.bits(at: $0) != 0 }) else { continue }
                    var changed = tensor
                    for index in range { changed = changed.setting(index, bits: 0) }
                    if try await takes(replacing(name, changed)) {
                        isSmaller = true
                        tensor = best.inputs[name] ?? changed
                    }
                }
                // Below 1 there is nothing; of large tensors single elements would take too long.
                chunk = chunk == 1 || (chunk + 1) / 2 < tensor.count / 512 ? 0 : (chunk + 1) / 2
            }
            guard tensor.count <= 512 else { continue }
            for index in 0..<tensor.count where !isExhausted {
                while let bits = best.inputs[name]?.bits(at: index), bits != 0 {
                    var found = false
                    for candidate in Self.simpler(tensor.type, bits) {
                        guard let current = best.inputs[name] else { break }
                        if try await takes(replacing(name, current.setting(index, bits: candidate))) {
                            (found, isSmaller) = (true, true)
                            break
                        }
                    }
                    if !found { break }
                }
            }
        }
        return isSmaller
    }

    private func replacing(_ name: String, _ tensor: Tensor) -> Draft {
        var draft = best
        draft.replace(name, tensor)
        return draft
    }

    /// Simpler elements of a type than one of these bits, the simplest first.
    static func simpler(_ type: ElementType, _ bits: UInt64) -> [UInt64] {
        guard let fields = FloatFields(type) else {
            // Integers toward 0; as two's complement, sign-extended.
            let shift = UInt64(64 - 8 * type.byteWidth)
            let isSigned = type.rawValue.hasPrefix("int")
            let value = isSigned ? Int64(bitPattern: bits << shift) >> Int64(shift) : Int64(bitPattern: bits)
            guard value > 0 || isSigned else { return value == 0 ? [] : [0, 1, bits >> 1] }
            let candidates: [Int64] = [0, 1, value / 2, value - value.signum(), value < 0 ? -(value + 1) : 0]
            let mask = UInt64.max >> shift
            var result: [UInt64] = []
            for candidate in candidates
            where candidate.magnitude < value.magnitude
                || (value < 0 && candidate >= 0 && candidate.magnitude <= value.magnitude)
            {
                let bits = UInt64(bitPattern: candidate) & mask
                if !result.contains(bits) { result.append(bits) }
            }
            return result
        }
        let width = UInt64(fields.significandBits)
        let one = UInt64(fields.bias) << width
        let fraction = bits & ((1 << width) - 1)
        let exponent = bits & fields.infinity
        var candidates: [UInt64] = [0, one, one + 1 << width, bits & ~fields.signBit, bits & ~((1 << width) - 1)]
        // The leading bits of the significand, and all but the last.
        for kept in [1, 2, 4, 8, 16] as [UInt64] where kept < width {
            candidates.append(bits & ~((1 << (width - kept)) - 1))
        }
        if fraction != 0 { candidates.append(bits & ~(fraction & (0 &- fraction))) }
        if exponent != 0 && exponent != fields.infinity {
            // Half way to 1, and a step.
            let (e, bias) = (Int64(exponent >> width), Int64(fields.bias))
            for target in [bias, (e + bias) / 2, e + (bias - e).signum()] {
                candidates.append(bits & ~fields.infinity | UInt64(target) << width)
            }
        }
        if fields.isNaN(bits) { candidates.append(fields.infinity | 1 << (width - 1)) }
        let measure = complexity(bits, fields)
        var result: [UInt64] = []
        for candidate in candidates.sorted(by: { complexity($0, fields) < complexity($1, fields) })
        where complexity(candidate, fields) < measure && !result.contains(candidate) {
            result.append(candidate)
        }
        return result
    }

    /// 0 for +0; then few significand bits, exponents near 1's, positive.
    private static func complexity(_ bits: UInt64, _ fields: FloatFields) -> Int {
        if bits == 0 { return 0 }
        let width = fields.significandBits
        let fraction = bits & ((1 << UInt64(width)) - 1)
        let exponent = Int(bits & fields.infinity) >> width
        let sign = bits & fields.signBit == 0 ? 1 : 2
        if fields.isNaN(bits) { return 1 << 40 + Int(fraction.nonzeroBitCount) + sign }
        let significant = fraction == 0 ? 0 : width - fraction.trailingZeroBitCount
        return significant << 16 + Int((exponent - fields.bias).magnitude) << 2 + sign
    }
}
