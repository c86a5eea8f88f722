import Checker
import Foundation
import GoldenIO
import ModelSpec

/// A command that is run once for each case.
struct FuzzProcess: Implementation {
    let process: PluginProcess
    let folder: TemporaryFolder
    var name: String { process.command }

    func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
        folder.empty()
        let (input, output) = (folder.path + "/in.h5", folder.path + "/out.h5")
        let writer = try GoldenWriter(
            path: input,
            header: GoldenHeader(
                specVersion: Specification.version, suite: "fuzz", tier: "fuzz", generator: Specification.generator,
                seed: 0))
        try writer.write(goldenCase)
        try writer.finish()
        func failure(_ what: String) -> ImplementationFailure {
            ImplementationFailure(.reported, implementation: name, goldenCase: goldenCase.name, what)
        }
        do {
            try await process.run(input: input, output: output, naming: goldenCase.name)
            let file = try GoldenFile(reading: output)
            return file.caseNames.contains(goldenCase.name)
                ? try file.readCase(goldenCase.name, groups: [.outputs]).outputs : nil
        } catch JudgingError.plugin(_, _, let what) {
            throw failure(what)
        } catch let error as GoldenIOError {
            throw failure("wrote an {out} that cannot be read: \(error)")
        }
    }
}
