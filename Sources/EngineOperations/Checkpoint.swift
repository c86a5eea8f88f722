import Cases
import Engine
import Foundation
import GoldenIO
import Goldens
import JSON
import ModelSpec

/// A training run at the end of a step: everything that the next step depends on, in an HDF5 file with the format of goldens.
///
/// One case, `state`, of the operation `training.state`: the recipe holds the configuration, the step, the fingerprint's chain and the data's digest, the
/// inputs hold `weight.*`, `m.*`, `v.*` and with error feedback `residual.*`, as of `training.step`. Files are written beside and renamed, so that a crash leaves the
/// one before.
public struct Checkpoint: Sendable {
    public let configuration: ModelConfiguration
    /// Steps taken.
    public let step: Int
    /// The chain so far, 64 hex digits; nil if none was kept.
    public let fingerprint: String?
    /// What names the training data.
    public let data: String
    private let tensors: [NamedTensor]

    /// What is no checkpoint of this run.
    public struct Failure: Error, Sendable, CustomStringConvertible {
        public let path: String
        public let message: String
        public var description: String { "\(path): \(message)" }
    }

    private static let operation = "training.state"
    private static let ownKeys: Set<String> = ["step", "fingerprint", "data"]

    /// The state of a trainer.
    ///
    /// - Parameter residuals: of several processes, on rank 0, what ``/Engine/Trainer/gatherResiduals()`` gave; nil in one process. The file is the same.
    public init(_ trainer: Trainer, step: Int, fingerprint: String?, data: String, residuals: [[Float]]? = nil) {
        configuration = trainer.configuration
        self.step = step
        self.fingerprint = fingerprint
        self.data = data
        var tensors: [NamedTensor] = []
        var index = 0
        trainer.readState { state in
            let name = state.parameter.name
            let shape = state.parameter.shape
            func add(_ name: String, _ values: UnsafeMutableBufferPointer<Float>, _ shape: [Int]) {
                tensors.append(NamedTensor(name, Tensor(Array(values), shape: shape)))
            }
            add("weight.\(name)", state.weight, shape)
            add("m.\(name)", state.first, shape)
            add("v.\(name)", state.second, shape)
            if let residual = state.residual {
                let values = residuals?[index] ?? Array(residual)
                tensors.append(
                    NamedTensor(
                        "residual.\(name)",
                        Tensor(values, shape: [trainer.configuration.ranks, state.parameter.count])))
            }
            index += 1
        }
        self.tensors = tensors
    }

    public func write(_ path: String) throws {
        var recipe = configuration.recipe(withBits: true)
        recipe["step"] = .integer(Int64(step))
        recipe["data"] = .string(data)
        if let fingerprint { recipe["fingerprint"] = .string(fingerprint) }
        let writer = try GoldenWriter(
            path: path,
            header: GoldenHeader(
                specVersion: Specification.version, suite: "checkpoint", tier: "run",
                generator: Specification.generator, seed: configuration.seed))
        try writer.write(
            GoldenCase(
                name: "state", op: Self.operation, why: "a training run after step \(step)",
                specClauses: ["T1", "T4", "T5"], recipe: recipe, inputs: TensorGroup(tensors)))
        try writer.finish()
    }

    /// - Throws: ``Failure``, or what reading a golden file throws.
    public init(reading path: String) throws {
        let file = try GoldenFile(reading: path)
        guard file.caseNames.contains("state") else {
            throw Failure(path: path, message: "is no checkpoint: there is no case 'state' in it")
        }
        let state = try file.readCase("state", groups: [.inputs])
        guard state.op == Self.operation else {
            throw Failure(
                path: path, message: "is no checkpoint: its case is of '\(state.op)', expected '\(Self.operation)'")
        }
        guard case .integer(let step)? = state.recipe["step"], case .string(let data)? = state.recipe["data"],
            (1...1 << 30).contains(step)
        else { throw Failure(path: path, message: "has no 'step' and 'data' in its recipe") }
        configuration = try ModelConfiguration(recipe: state.recipe.filter { !Self.ownKeys.contains($0.key) })
        self.step = Int(step)
        self.data = data
        if case .string(let text)? = state.recipe["fingerprint"] { fingerprint = text } else { fingerprint = nil }
        tensors = state.inputs.tensors
        let names = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.tensor) })
        for parameter in configuration.parameters {
            var expected = ["weight", "m", "v"].map { ("\($0).\(parameter.name)", parameter.shape) }
            if configuration.compression == .squinch && configuration.errorFeedback {
                expected.append(("residual.\(parameter.name)", [configuration.ranks, parameter.count]))
            }
            for (name, shape) in expected {
                guard let tensor = names[name] else { throw Failure(path: path, message: "inputs/\(name) is missing") }
                guard tensor.type == .fp32, tensor.shape == shape else {
                    throw Failure(
                        path: path,
                        message: "inputs/\(name) is \(tensor.type.rawValue) \(tensor.shape), expected fp32 \(shape)")
                }
            }
        }
    }

    /// Puts the state into a trainer of the same configuration.
    public func restore(_ trainer: Trainer) {
        precondition(trainer.configuration == configuration, "a checkpoint of another configuration")
        let names = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.tensor) })
        trainer.withState { state in
            let name = state.parameter.name
            func copy(_ kind: String, _ target: UnsafeMutableBufferPointer<Float>) {
                guard let tensor = names["\(kind).\(name)"] else { return }
                UnsafeMutableRawBufferPointer(target).copyBytes(from: tensor.bytes)
            }
            copy("weight", state.weight)
            copy("m", state.first)
            copy("v", state.second)
            // Of several processes each gets its own rank's, below.
            if trainer.communicator == nil, let residual = state.residual { copy("residual", residual) }
        }
    }

    /// Puts the weights alone into a trainer whose parameters are the same: what a model needs that is not trained on.
    public func restoreWeights(_ trainer: Trainer) {
        precondition(trainer.configuration.parameters == configuration.parameters, "a checkpoint of another model")
        let names = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.tensor) })
        trainer.withState { state in
            guard let tensor = names["weight.\(state.parameter.name)"] else { return }
            UnsafeMutableRawBufferPointer(state.weight).copyBytes(from: tensor.bytes)
        }
    }

    /// With error feedback the residuals of every parameter [W, elements].
    private var residuals: [[Float]] {
        guard configuration.compression == .squinch && configuration.errorFeedback else { return [] }
        let names = Dictionary(uniqueKeysWithValues: tensors.map { ($0.name, $0.tensor) })
        return configuration.parameters.map { parameter in
            let bytes = names["residual.\(parameter.name)"]?.bytes ?? []
            return [Float](unsafeUninitializedCapacity: bytes.count / 4) { values, count in
                UnsafeMutableRawBufferPointer(values).copyBytes(from: bytes)
                count = bytes.count / 4
            }
        }
    }

    /// Puts the state that rank 0 has read into the trainers of all ranks, which all call this; `checkpoint` is nil elsewhere.
    ///
    /// - Throws: ``/Engine/CommunicationError``.
    public static func restore(_ checkpoint: Checkpoint?, everywhere trainer: Trainer) throws {
        checkpoint?.restore(trainer)
        try trainer.distributeState(residuals: checkpoint?.residuals ?? [])
    }

    // MARK: - Folders

    /// The path of a step's checkpoint.
    public static func path(_ folder: String, step: Int) -> String {
        let digits = String(step)
        return "\(folder)/step-\(String(repeating: "0", count: max(0, 8 - digits.count)))\(digits).h5"
    }

    /// The steps whose checkpoints a folder holds, ascending.
    public static func steps(_ folder: String) throws -> [Int] {
        try FileManager.default.contentsOfDirectory(atPath: folder).compactMap { name in
            guard name.hasPrefix("step-"), name.hasSuffix(".h5") else { return nil }
            return Int(name.dropFirst(5).dropLast(3))
        }.sorted()
    }
}
