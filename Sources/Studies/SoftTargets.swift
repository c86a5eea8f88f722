import Cases
import Engine
import EngineOperations
import ExactMath
import Foundation
import GoldenIO
import Goldens
import JSON
import ModelSpec
import Platform
import TrainingData

/// Sparse soft targets of a text, sampled from a teacher once and stored (K4): a folder of HDF5 files of so many sequences each.
///
/// Weights are 0 or more and below 2^30; ids are below the vocabulary, or 2^32 - 1 for an empty slot.
///
/// `targets-NNNNN.h5` has the format of goldens with one case, `targets`, of the operation `distillation.targets`: inputs `tokens`, `targets`, `position`, `visibility_start`,
/// `visibility_limit` int32 [S, T]; outputs `target_ids` uint32 and `target_weights` fp32 [S, T, k]. A file is whole or absent, so a run that was cut short goes on
/// with the first that is missing. Tokens without a next one in their document have empty slots.
public struct SoftTargets: Sendable {
    /// All that decides the bits of the files.
    public struct Plan: Sendable, Hashable {
        public var method = TargetMethod.gumbel
        /// k
        public var k = 8
        public var seed: UInt64 = 0
        /// The fingerprint of the teacher's weights and of the text, 64 hex digits each.
        public var teacher = ""
        public var data = ""
        public var vocabulary = 256
        public var sequenceLength = 64
        /// Sequences in all, and in a file.
        public var sequences = 0
        public var chunk = 64

        public init() {}

        public var chunks: Int { (sequences + chunk - 1) / chunk }

        fileprivate var recipe: [String: JSONValue] {
            [
                "method": .string(method.rawValue), "k": .integer(Int64(k)), "seed": .string(String(seed, radix: 16)),
                "teacher": .string(teacher), "data": .string(data), "vocabulary": .integer(Int64(vocabulary)),
                "sequence_length": .integer(Int64(sequenceLength)), "sequences": .integer(Int64(sequences)),
                "chunk": .integer(Int64(chunk)),
            ]
        }

        fileprivate init(_ recipe: [String: JSONValue], path: String) throws(Failure) {
            func integer(_ key: String, _ range: ClosedRange<Int64>) throws(Failure) -> Int {
                guard case .integer(let value)? = recipe[key], range.contains(value) else {
                    throw Failure(path, "has no '\(key)' in \(range.lowerBound) ... \(range.upperBound) in its recipe")
                }
                return Int(value)
            }
            func text(_ key: String) throws(Failure) -> String {
                guard case .string(let value)? = recipe[key] else {
                    throw Failure(path, "has no '\(key)' in its recipe")
                }
                return value
            }
            guard let method = TargetMethod(rawValue: try text("method")) else {
                throw Failure(
                    path,
                    "has a 'method' that is none of \(TargetMethod.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            guard let seed = UInt64(try text("seed"), radix: 16) else {
                throw Failure(path, "has a 'seed' that is no hexadecimal number")
            }
            (self.method, self.seed) = (method, seed)
            (teacher, data) = (try text("teacher"), try text("data"))
            k = try integer("k", 1...1 << 24)
            vocabulary = try integer("vocabulary", 2...1 << 24)
            sequenceLength = try integer("sequence_length", 1...1 << 20)
            sequences = try integer("sequences", 1...1 << 40)
            chunk = try integer("chunk", 1...1 << 20)
        }
    }

    /// What is no file of soft targets, or not of the ones asked for.
    public struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
        public let path: String
        public let message: String

        init(_ path: String, _ message: String) { (self.path, self.message) = (path, message) }

        public var description: String { "\(path): \(message)" }
    }

    public let plan: Plan
    let tokens: [TrainingSequence]
    let ids: [UInt32]
    let weights: [Float]
    private let order: DataOrder

    public static func path(_ folder: String, chunk: Int) -> String {
        let digits = String(chunk)
        return "\(folder)/targets-\(String(repeating: "0", count: max(0, 5 - digits.count)))\(digits).h5"
    }

    private static let operation = "distillation.targets"
    private static let names = ["tokens", "targets", "position", "visibility_start", "visibility_limit"]

    // MARK: Sampling

    /// Runs the teacher over the first ``Plan/sequences`` of a text and writes what is not there yet.
    ///
    /// - Parameter progress: is told how many sequences are done, those found included; what it throws ends the work between two files.
    /// - Returns: how many sequences were found in finished files.
    /// - Throws: ``Failure`` for a file of another plan, `GoldenIOError`, `EngineError`, and what `progress` throws.
    @discardableResult
    public static func sample(
        _ plan: Plan, teacher: Trainer, context: EngineContext, corpus: TrainingCorpus, folder: String,
        progress: (Int) throws -> Void
    ) throws -> Int {
        let sampler = TargetSampler(context: context, method: plan.method, k: plan.k, seed: plan.seed)
        try Files.createFolder(folder)
        var found = 0
        for chunk in 0..<plan.chunks {
            let path = path(folder, chunk: chunk)
            let range = chunk * plan.chunk..<min((chunk + 1) * plan.chunk, plan.sequences)
            if FileManager.default.fileExists(atPath: path) {
                let (other, first, _) = try open(path)
                guard other == plan, first == range.lowerBound else {
                    throw Failure(
                        path,
                        "holds targets of another teacher, text, method, k, seed or size: sample into another folder, or remove it"
                    )
                }
                found += range.count
                try progress(range.upperBound)
                continue
            }
            let sequences = try corpus.sequences.read(range)
            var ids: [UInt32] = []
            var weights: [Float] = []
            let v = plan.vocabulary
            for first in stride(from: 0, to: sequences.count, by: teacher.sequenceCapacity) {
                let part = Array(sequences[first..<min(first + teacher.sequenceCapacity, sequences.count)])
                var logits: [Float] = []
                _ = try teacher.loss(TrainingBatch(part)) { name, tensor in
                    if name == "logits" { logits = Array(tensor.bytes.bindMemory(to: Float.self)) }
                }
                let size = plan.sequenceLength * v
                for (index, sequence) in part.enumerated() {
                    // Draws belong to the sequence, wherever it is cut: the step is its number in the text.
                    let (own, shares) = try sampler.sample(
                        Array(logits[index * size..<(index + 1) * size]), rows: plan.sequenceLength, vocabulary: v,
                        step: UInt32(truncatingIfNeeded: range.lowerBound + first + index))
                    for (row, target) in sequence.targets.enumerated() {
                        let slots = row * plan.k..<(row + 1) * plan.k
                        ids += target < 0 ? Array(repeating: UInt32.max, count: plan.k) : Array(own[slots])
                        weights += target < 0 ? Array(repeating: 0, count: plan.k) : Array(shares[slots])
                    }
                }
                try progress(range.lowerBound + first)
            }
            try write(plan, first: range.lowerBound, sequences, ids, weights, path)
            try progress(range.upperBound)
        }
        return found
    }

    private static func write(
        _ plan: Plan, first: Int, _ sequences: [TrainingSequence], _ ids: [UInt32], _ weights: [Float], _ path: String
    ) throws {
        let shape = [sequences.count, plan.sequenceLength]
        let lists = [
            sequences.flatMap(\.tokens), sequences.flatMap(\.targets), sequences.flatMap(\.positions),
            sequences.flatMap(\.start), sequences.flatMap(\.limit),
        ]
        var recipe = plan.recipe
        recipe["first"] = .integer(Int64(first))
        var made = GoldenCase(
            name: "targets", op: operation,
            why: "sequences \(first) to \(first + sequences.count - 1) of \(plan.sequences)",
            specClauses: ["K1", "K2", "K4"], recipe: recipe,
            inputs: TensorGroup(zip(names, lists).map { NamedTensor($0, Tensor($1, shape: shape)) }))
        made.outputs = [
            NamedTensor("target_ids", Tensor(ids, shape: shape + [plan.k])),
            NamedTensor("target_weights", Tensor(weights, shape: shape + [plan.k])),
        ]
        let writer = try GoldenWriter(
            path: path,
            header: GoldenHeader(
                specVersion: Specification.version, suite: "distillation", tier: "run",
                generator: Specification.generator,
                seed: plan.seed))
        try writer.write(made)
        try writer.finish()
    }

    // MARK: Reading

    private static func open(_ path: String) throws -> (plan: Plan, first: Int, file: GoldenFile) {
        let file = try GoldenFile(reading: path)
        guard file.caseNames == ["targets"] else {
            throw Failure(path, "is no file of soft targets: expected one case, 'targets'")
        }
        let made = try file.readCase("targets", groups: [])
        guard made.op == operation else { throw Failure(path, "its case is of '\(made.op)', expected '\(operation)'") }
        guard case .integer(let first)? = made.recipe["first"], first >= 0 else {
            throw Failure(path, "has no 'first' in its recipe")
        }
        return (try Plan(made.recipe, path: path), Int(first), file)
    }

    /// Reads every file of a folder.
    ///
    /// - Throws: ``Failure`` if files are missing, do not belong together, or hold what is no target; `GoldenIOError`.
    public init(reading folder: String) throws {
        let plan = try Self.open(Self.path(folder, chunk: 0)).plan
        self.plan = plan
        var sequences: [TrainingSequence] = []
        var ids: [UInt32] = []
        var weights: [Float] = []
        for chunk in 0..<plan.chunks {
            let path = Self.path(folder, chunk: chunk)
            guard FileManager.default.fileExists(atPath: path) else {
                throw Failure(path, "is missing: sampling is not finished; the same command goes on with it")
            }
            let (other, first, file) = try Self.open(path)
            let count = min(plan.chunk, plan.sequences - chunk * plan.chunk)
            guard other == plan, first == chunk * plan.chunk else {
                throw Failure(path, "does not belong to the files before it")
            }
            let made = try file.readCase("targets", groups: [.inputs, .outputs])
            let shape = [count, plan.sequenceLength]
            var lists: [[Int32]] = []
            for name in Self.names {
                guard let tensor = made.inputs[name], tensor.type == .int32, tensor.shape == shape else {
                    throw Failure(path, "inputs/\(name) is not int32 \(shape)")
                }
                lists.append(try tensor.integers(Int32.self))
            }
            guard let stored = made.outputs["target_ids"], stored.type == .uint32, stored.shape == shape + [plan.k],
                let shares = made.outputs["target_weights"], shares.type == .fp32, shares.shape == shape + [plan.k]
            else {
                throw Failure(path, "outputs/target_ids and target_weights are not uint32 and fp32 \(shape + [plan.k])")
            }
            let (own, values) = (try stored.integers(UInt32.self), try shares.floats())
            for (index, id) in own.enumerated() {
                guard id == UInt32.max || id < UInt32(plan.vocabulary) else {
                    throw Failure(
                        path, "outputs/target_ids has \(id) at \(index), expected less than \(plan.vocabulary)")
                }
                guard values[index].isFinite, values[index] >= 0, values[index] < 0x1p30 else {
                    throw Failure(
                        path,
                        "outputs/target_weights has \(values[index]) at \(index), expected a number from 0 to 2^30")
                }
            }
            ids += own
            weights += values
            for row in 0..<count {
                func part(_ list: Int) -> [Int32] {
                    Array(lists[list][row * plan.sequenceLength..<(row + 1) * plan.sequenceLength])
                }
                var sequence = TrainingSequence()
                (sequence.tokens, sequence.targets, sequence.positions) = (part(0), part(1), part(2))
                (sequence.start, sequence.limit) = (part(3), part(4))
                sequences.append(sequence)
            }
        }
        (tokens, self.ids, self.weights) = (sequences, ids, weights)
        order = DataOrder(count: sequences.count)
    }

    /// The batch of a step, in the order that T7 gives so many sequences: tokens [B, T], ids and weights [B, T, k].
    public func batch(step: Int, configuration c: ModelConfiguration) -> TrainingBatch {
        let chosen = order.sequences(step: step, batch: c.batch, seed: c.seed)
        let size = plan.sequenceLength * plan.k
        return TrainingBatch(chosen.map { tokens[$0] }).withTargets(
            ids: chosen.flatMap { ids[$0 * size..<($0 + 1) * size] },
            weights: chosen.flatMap { weights[$0 * size..<($0 + 1) * size] })
    }

    /// What names the targets: SHA-256 over the plan and every number.
    public var digest: String {
        var chain = Fingerprint()
        chain.append(plan.teacher + plan.data, Tensor(ids, shape: [ids.count]))
        chain.append("weights", Tensor(weights, shape: [weights.count]))
        return chain.hexadecimal
    }

    /// Bytes of ids and weights, and what the whole distribution would take in fp32.
    public var storage: (sparse: Int, full: Int) {
        (8 * ids.count, 4 * tokens.count * plan.sequenceLength * plan.vocabulary)
    }

    /// The mean over tokens with targets of the sum of their weights, whose expectation is 1.
    public var meanWeight: Double {
        var (sum, rows) = (0.0, 0)
        for row in 0..<tokens.count * plan.sequenceLength where ids[row * plan.k] != UInt32.max {
            for slot in row * plan.k..<(row + 1) * plan.k { sum += Double(weights[slot]) }
            rows += 1
        }
        return rows == 0 ? .nan : sum / Double(rows)
    }
}

extension Trainer {
    /// SHA-256 over the weights (T6): what names a teacher.
    public var weightsDigest: String {
        var chain = Fingerprint()
        readState { state in
            chain.append(state.parameter.name, Tensor(Array(state.weight), shape: state.parameter.shape))
        }
        return chain.hexadecimal
    }
}
