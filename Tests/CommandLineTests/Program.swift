import Foundation
import Subprocess
import Testing

/// The built program, run as a user runs it.
enum Program {
    struct Outcome {
        let exitCode: Int
        let output: String
        let errors: String
    }

    /// Beside the test bundle, where SwiftPM puts both; `TOUCHSTONE` overrides.
    static let path: String = {
        if let path = ProcessInfo.processInfo.environment["TOUCHSTONE"] { return path }
        #if os(macOS)
            for bundle in Bundle.allBundles where bundle.bundlePath.hasSuffix(".xctest") {
                return bundle.bundleURL.deletingLastPathComponent().appendingPathComponent("touchstone").path
            }
        #endif
        return URL(fileURLWithPath: ProcessInfo.processInfo.arguments[0]).deletingLastPathComponent()
            .appendingPathComponent("touchstone").path
    }()

    /// The package's own folder.
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    static func run(_ arguments: String..., directory: String? = nil) async throws -> Outcome {
        try await run(arguments, directory: directory)
    }

    /// - Parameters:
    ///   - program: another than the built one.
    ///   - settings: added to the environment.
    static func run(
        _ arguments: [String], directory: String? = nil, program: String? = nil, settings: [String: String] = [:]
    ) async throws -> Outcome {
        var environment: [Subprocess.Environment.Key: String?] = ["TOUCHSTONE": path]
        for (key, value) in settings { environment[.init(stringLiteral: key)] = value }
        let result = try await Subprocess.run(
            .path(.init(program ?? path)), arguments: .init(arguments),
            environment: .inherit.updating(environment),
            workingDirectory: .init(directory ?? root), output: .string(limit: 1 << 24),
            error: .string(limit: 1 << 24))
        let code: Int =
            switch result.terminationStatus {
            case .exited(let code): Int(code)
            case .signaled(let signal): 1000 + Int(signal)
            }
        return Outcome(exitCode: code, output: result.standardOutput, errors: result.standardError)
    }
}

/// A folder of one test's own, removed at the end.
final class TemporaryFolder {
    let path: String

    init() throws {
        let base = FileManager.default.temporaryDirectory.path
        path = "\(base)/touchstone-test-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Everything in it, temporaries of an interrupted write included.
    var contents: [String] {
        (FileManager.default.enumerator(atPath: path)?.allObjects as? [String] ?? []).sorted()
    }
}
