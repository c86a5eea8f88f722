import Cases
import Checker
import Engine
import EngineOperations
import Foundation
import GoldenIO
import Goldens
import JSON
import ModelSpec
import Testing

/// Every operation's smallest shipped case.
private enum SmallCases {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    static let goldens = folder.appendingPathComponent("GoldenData").path

    static let all: [GoldenCase] = {
        var all: [GoldenCase] = []
        do {
            for file in try Manifest(reading: goldens + "/MANIFEST.json").files {
                let golden = try GoldenFile(reading: goldens + "/" + file.path)
                for name in golden.caseNames { all.append(try golden.readCase(name)) }
            }
        } catch { Issue.record("\(error)") }
        return all
    }()

    static let byOperation: [String: GoldenCase] = {
        func elements(_ one: GoldenCase) -> Int { one.inputs.tensors.reduce(0) { $0 + $1.tensor.count } }
        // Cases without elements leave too little to spoil.
        return Dictionary(
            grouping: all.filter { one in one.inputs.tensors.allSatisfy { $0.tensor.count > 0 } }, by: \.op
        )
        .compactMapValues { $0.min { elements($0) < elements($1) } }
    }()
}

/// A case that its operation must refuse, and what the refusal must name.
private struct WrongCase {
    let kind: String
    let goldenCase: GoldenCase
    let named: String

    /// Every kind of mistake that the operation's signature leaves room for.
    static func all(of right: GoldenCase, _ signature: OperationSignature) -> [WrongCase] {
        let present = signature.inputs.filter { right.inputs[$0.name] != nil && $0.presence.holds(in: right.recipe) }
        var list: [WrongCase] = []
        func add(_ kind: String, _ named: String, _ change: (inout GoldenCase) -> Void) {
            var changed = right
            change(&changed)
            list.append(WrongCase(kind: kind, goldenCase: changed, named: named))
        }
        func replace(_ one: inout GoldenCase, _ name: String, _ tensor: Tensor?) {
            one.inputs = TensorGroup(
                one.inputs.tensors.compactMap { named in
                    named.name == name ? tensor.map { NamedTensor(name, $0) } : named
                })
        }
        func zeros(_ type: ElementType, _ shape: [Int]) -> Tensor {
            let bytes = [UInt8](repeating: 0, count: shape.reduce(type.byteWidth, *))
            return (try? Tensor(type: type, shape: shape, bytes: bytes)) ?? Tensor([UInt8](), shape: [0])
        }
        for input in present {
            guard let tensor = right.inputs[input.name] else { continue }
            if input.presence != .optional {
                add("missing input", "inputs/\(input.name)") { replace(&$0, input.name, nil) }
            }
            add("type", "inputs/\(input.name)") {
                replace(&$0, input.name, zeros(tensor.type == .fp64 ? .int8 : .fp64, tensor.shape))
            }
            add("rank", "inputs/\(input.name)") {
                replace(&$0, input.name, zeros(tensor.type, tensor.shape + [1]))
            }
            for (axis, dimension) in input.shape.enumerated() {
                var shape = tensor.shape
                shape[axis] += 1
                var isBound = signature.takesConfiguration && axis > 0
                var culprit = input.name
                switch dimension {
                case .fixed, .blocks: isBound = true
                case .letter(let letter):
                    if signature.recipe.contains(where: { $0.letter == letter }) { isBound = true }
                    // The first tensor with a letter binds it; the next one with it is refused.
                    let sharing = present.filter {
                        $0.shape.contains(.letter(letter)) || $0.shape.contains(.blocks(of: letter))
                    }
                    if sharing.count > 1 {
                        isBound = true
                        if !signature.recipe.contains(where: { $0.letter == letter }), sharing[0].name == input.name,
                            !signature.takesConfiguration || letter == "S"
                        {
                            culprit = sharing[1].name
                        }
                    }
                }
                if !isBound { continue }
                if case .letter(let letter) = dimension, letter == "n",
                    present.contains(where: { $0.shape.contains(.blocks(of: "n")) }), culprit != input.name,
                    (tensor.shape[axis] + 7) / 8 == (tensor.shape[axis] + 8) / 8
                {
                    continue
                }
                add("size", "inputs/\(culprit)") { replace(&$0, input.name, zeros(tensor.type, shape)) }
            }
            if let range = input.range {
                let words = tensor.type == .int32 ? UInt32(bitPattern: Int32(range.lower) - 1) : UInt32.max - 1
                var bytes = tensor.bytes
                for byte in 0..<4 { bytes[byte] = UInt8(truncatingIfNeeded: words >> UInt32(8 * byte)) }
                let spoiled = (try? Tensor(type: tensor.type, shape: tensor.shape, bytes: bytes)) ?? tensor
                add("element", "inputs/\(input.name)") { replace(&$0, input.name, spoiled) }
            }
        }
        add("extra input", "inputs/surplus") { $0.inputs.append("surplus", zeros(.fp32, [1])) }
        for absent in signature.inputs where right.inputs[absent.name] == nil && absent.presence != .optional {
            add("input beside its condition", "inputs/\(absent.name)") { one in
                one.inputs.append(absent.name, zeros(.fp32, [1]))
            }
        }
        for key in signature.recipe where right.recipe[key.name] != nil {
            let name = key.name
            if key.presence == .required {
                add("missing key", "'\(name)'") { ($0.recipe[name], $0.recipe[name + "_bits"]) = (nil, nil) }
            }
            add("kind of value", "'\(name)'") { $0.recipe[name] = .array([]) }
            switch key.kind {
            case .choice: add("choice", "'\(name)'") { $0.recipe[name] = "no-such-choice" }
            case .integer(let range):
                add("integer below", "'\(name)'") { $0.recipe[name] = .integer(Int64(range.lowerBound) - 1) }
                if range.upperBound < Int.max {
                    add("integer above", "'\(name)'") { $0.recipe[name] = .integer(Int64(range.upperBound) + 1) }
                }
            case .fp32(let range):
                add("bits that disagree", "'\(name)_bits'") {
                    $0.recipe[name] = .number(1.5)
                    $0.recipe[name + "_bits"] = "3f800000"
                }
                add("bits that are none", "'\(name)_bits'") { $0.recipe[name + "_bits"] = "3F80000" }
                if range != .any {
                    add("number out of its range", "'\(name)'") {
                        $0.recipe[name] = .number(-1)
                        $0.recipe[name + "_bits"] = nil
                    }
                }
            case .hexadecimal64: add("hex digits", "'\(name)'") { $0.recipe[name] = "0123" }
            case .flag, .integers: break
            }
        }
        add("unknown key", "'surplus'") { $0.recipe["surplus"] = .integer(1) }
        return list
    }
}

@Suite("Signatures")
struct SignatureTests {
    private static let names = OperationSignature.all.map(\.name)

    @Test("names are unique, and the letters of shapes are bound before they are used")
    func table() {
        #expect(Set(Self.names).count == Self.names.count && Self.names.count > 60)
        for one in OperationSignature.all {
            var bound = Set(one.recipe.compactMap(\.letter)).union(one.takesConfiguration ? ["V", "B", "T", "k"] : [])
            for input in one.inputs {
                for case .letter(let letter) in input.shape { bound.insert(letter) }
                for case .blocks(let letter) in input.shape { #expect(bound.contains(letter), "\(one.name)") }
            }
            for input in one.inputs {
                if case .letter(let letter)? = input.range?.upper { #expect(bound.contains(letter), "\(one.name)") }
                if case .named(let key) = input.types { #expect(one.key(key) != nil, "\(one.name)") }
            }
            for rule in one.sizes { #expect(bound.isSuperset(of: rule.letters), "\(one.name): \(rule)") }
            #expect((one.bound != nil) == one.outputs.contains { $0.isBounded }, "\(one.name)")
            // A condition stands on a key of the recipe that is read before.
            for presence in one.inputs.map(\.presence) + one.outputs.map(\.presence) + one.recipe.map(\.presence) {
                switch presence {
                case .when(let key, _), .unless(let key, _):
                    #expect(one.key(key) != nil || one.takesConfiguration, "\(one.name): \(key)")
                case .required, .optional: break
                }
            }
        }
    }

    @Test("the reference, the engine, the deviations and the fuzzer know the operations of the table, and no others")
    func registries() {
        let names = Set(Self.names)
        #expect(OperationCatalog.all.map(\.name) == Self.names)
        #expect(Set(EngineCatalog.names) == names)
        #expect(Set(FuzzCases.operations) == names)
        #expect(Set(DeviationCatalog.operations) == names)
    }

    @Test("every shipped case is one that its signature describes, outputs, truth and bounds included")
    func shipped() throws {
        #expect(SmallCases.all.count > 1000)
        #expect(Set(SmallCases.all.map(\.op)) == Set(Self.names))
        for one in SmallCases.all {
            let given = try CheckedCase(one)
            #expect(given.complaints(outputs: one.outputs, truth: one.truth, bounds: one.bounds) == [], "\(one.name)")
        }
    }

    @Test("a wrong case of every kind is refused by name, in the reference and in the engine", arguments: names)
    func wrong(op: String) throws {
        let signature = try #require(OperationSignature.named(op))
        let right = try #require(SmallCases.byOperation[op])
        let engine = EngineCatalog(EngineContext(threads: 1))
        let wrong = WrongCase.all(of: right, signature)
        #expect(wrong.count >= 4)
        for one in wrong {
            for evaluate in [{ try OperationCatalog.evaluate($0) }, { try engine.evaluate($0) }]
                as [(GoldenCase) throws -> GoldenCase]
            {
                do {
                    _ = try evaluate(one.goldenCase)
                    Issue.record("\(op): \(one.kind) about \(one.named) was accepted")
                } catch let error as OperationError {
                    #expect(error.caseName == right.name)
                    #expect(error.message.contains(op) && error.message.contains(one.named), "\(one.kind): \(error)")
                }
            }
        }
        print("wrong cases of \(op): \(wrong.count)")
    }

    @Test("the tables of Operations.md are those of the signatures")
    func documentation() throws {
        let path = "Sources/ModelSpec/ModelSpec.docc/Operations.md"
        let page = try String(contentsOf: SmallCases.folder.appendingPathComponent(path), encoding: .utf8)
        let parts = page.components(separatedBy: "<!-- tables -->\n")
        try #require(parts.count == 3, "the tables stand between two marks")
        #expect(parts[1] == OperationSignature.markdown, "run Tools/tables")
    }

    @Test("the file that the Python package reads is the table")
    func python() throws {
        let path = "Tools/python/touchstone/operations.json"
        let file = try String(contentsOf: SmallCases.folder.appendingPathComponent(path), encoding: .utf8)
        #expect(file == (try OperationSignature.table.text(indented: true)) + "\n", "run Tools/tables")
    }
}
