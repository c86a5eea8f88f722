import Cases
import Foundation
import GoldenIO
import Platform

/// The built program while it runs: for signals.
final class BackgroundProgram {
    private let process = Process()
    private let printed = Pipe()
    private let complaints = Pipe()
    let identifier: Int32

    init(_ arguments: [String], program: String = Program.path, directory: String = Program.root) throws {
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: directory)
        process.standardOutput = printed
        process.standardError = complaints
        try process.run()
        identifier = process.processIdentifier
    }

    deinit { if process.isRunning { kill(identifier, SIGKILL) } }

    var isRunning: Bool { process.isRunning }

    func send(_ signal: Int32) { kill(identifier, signal) }

    /// Waits for the end; nil if it does not come within so many seconds. Signals are 1000 and their number.
    func end(within seconds: Double) async throws -> (exitCode: Int, seconds: Double)? {
        let clock = ContinuousClock()
        let start = clock.now
        while process.isRunning {
            guard clock.now - start < .seconds(seconds) else { return nil }
            try await Task.sleep(for: .milliseconds(10))
        }
        let taken = (clock.now - start) / .seconds(1)
        let status = Int(process.terminationStatus)
        return (process.terminationReason == .exit ? status : 1000 + status, taken)
    }

    /// What it said on standard error; after its end.
    var errors: String { String(decoding: complaints.fileHandleForReading.availableData, as: UTF8.self) }
}

/// Files of cases that take the reference long.
enum LongWork {
    /// One case of `dot.gemm`, [M, K] times [K, N] of ones: about 20 ns of reference for each of M K N products, and more for the truth.
    static func writeProduct(_ path: String, m: Int, k: Int, n: Int, cases: Int = 1) throws {
        let golden = try GoldenFile(reading: "\(Program.root)/GoldenData/dot/gemm.h5")
        let model = try golden.readCase(golden.caseNames[0], groups: [.inputs])
        let writer = try GoldenWriter(path: path, header: golden.header)
        func ones(_ rows: Int, _ columns: Int) -> Tensor {
            Tensor(bf16: [UInt16](repeating: 0x3F80, count: rows * columns), shape: [rows, columns])
        }
        for number in 0..<cases {
            var one = model
            one.name = "product-\(number)"
            one.inputs = TensorGroup([NamedTensor("a", ones(m, k)), NamedTensor("b", ones(k, n))])
            try writer.write(one)
        }
        try writer.finish()
    }
}
