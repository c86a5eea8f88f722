import ArgumentParser
import Cases
import Foundation
import GoldenIO
import Goldens
import ModelSpec
import Platform

extension Suite: ExpressibleByArgument {}
extension Tier: ExpressibleByArgument {}

/// A 64-bit seed: decimal, or hexadecimal after 0x.
struct Seed: CustomStringConvertible {
    let value: UInt64
    init(_ value: UInt64) { self.value = value }
    init?(argument: String) {
        let parsed = argument.hasPrefix("0x") ? UInt64(argument.dropFirst(2), radix: 16) : UInt64(argument)
        guard let parsed else { return nil }
        value = parsed
    }
    var description: String { "0x" + String(value, radix: 16) }
}

struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write golden HDF5 files and their manifest.",
        discussion: """
            Each file is DIR/<suite>/<name>.h5; DIR/MANIFEST.json lists every file with its size and SHA-256. The files are \
            byte-identical on every run, machine and thread count. A file is written beside its place and renamed, so an \
            interrupted run leaves no half-written file.

            With --inputs-only the files hold recipes and inputs and nothing else, to start an implementation's own \
            outputs from; no manifest is written.
            """)

    @Option(name: .long, help: "A suite to write; may be given several times. All by default.")
    var suite: [Suite] = []

    @Option(name: .long, help: "How much: quick (seconds), standard, full (hundreds of megabytes).")
    var tier: Tier = .quick

    @Option(
        name: [.short, .long],
        help: ArgumentHelp(
            "The folder to write to. GoldenData, or GoldenData-<tier> for the larger tiers.", valueName: "dir"))
    var output: String?

    @Option(name: .long, help: "Seeds the sampled cases.", reading: Number.seed)
    var seed: Seed = Seed(GoldenSuites.defaultSeed)

    @Flag(name: .long, help: "Write recipes and inputs without the answers.")
    var inputsOnly = false

    @OptionGroup var threads: ThreadOptions

    @Flag(name: .long, help: "Print nothing but errors.")
    var quiet = false

    func run() throws {
        threads.apply()
        let directory = output ?? (tier == .quick ? "GoldenData" : "GoldenData-\(tier.rawValue)")
        let start = monotonicSeconds()
        let manifest = try GoldenSet.generate(
            suites: suite.isEmpty ? Suite.allCases : Suite.allCases.filter(suite.contains), tier: tier,
            seed: seed.value,
            directory: directory, inputsOnly: inputsOnly, quiet: quiet)
        guard !quiet else { return }
        let bytes = manifest.files.reduce(0) { $0 + $1.bytes }
        let cases = manifest.files.reduce(0) { $0 + $1.cases }
        print(
            "\(directory): \(counted(manifest.files.count, "file")), \(counted(cases, "case")), \(compact(Double(bytes), "B")), specification \(Specification.version), \(duration(monotonicSeconds() - start))"
        )
    }
}

/// Writing a whole set of goldens; `generate` and `demo` do it.
enum GoldenSet {
    /// Writes the files of `suites` into `directory` and, unless only inputs are asked for, the manifest.
    ///
    /// Files of other suites that the manifest there lists stay listed if they are of the same tier, seed and
    /// specification; files of these suites that are no longer made are removed.
    /// - Returns: the manifest of what was written now.
    @discardableResult
    static func generate(
        suites: [Suite], tier: Tier, seed: UInt64, directory: String, inputsOnly: Bool, quiet: Bool
    ) throws -> Manifest {
        try Files.createFolder(directory)
        let lock = try Exclusive.folder(directory)
        defer { lock.release() }
        let plans = suites.flatMap { GoldenSuites.files(of: $0, tier: tier, seed: seed) }
        let total = plans.reduce(0) { $0 + $1.cases.count }
        let bar = ProgressBar("generate", total: UInt64(total), unit: "cases", quiet: quiet)
        var done = 0
        var written: [Manifest.Entry] = []
        for plan in plans {
            let folder = "\(directory)/\(plan.suite.rawValue)"
            try Files.createFolder(folder)
            let relative = "\(plan.suite.rawValue)/\(plan.name).h5"
            let path = "\(directory)/\(relative)"
            let writer = try GoldenWriter(
                path: path, header: GoldenSuites.header(suite: plan.suite, tier: tier, seed: seed))
            // A batch is evaluated on all cores, then written in order.
            for batch in stride(from: 0, to: plan.cases.count, by: 32) {
                if Interruption.isRequested, !written.isEmpty {
                    bar.finish()
                    Terminal.writeError(
                        "touchstone: \(written.count) of \(counted(plans.count, "file")) are written and stay; MANIFEST.json is as it was\n"
                    )
                }
                try Interruption.check()
                let cases = Array(plan.cases[batch..<min(batch + 32, plan.cases.count)])
                let answers = inputsOnly ? cases.map { .success($0) } : CaseWork.answers(to: cases, done: done, bar)
                for answer in answers { try writer.write(try answer.get()) }
                done += cases.count
                bar.update(UInt64(done))
            }
            try writer.finish()
            written.append(
                Manifest.Entry(
                    path: relative, suite: plan.suite.rawValue, tier: tier.rawValue, cases: plan.cases.count,
                    seed: seed,
                    bytes: try fileSize(path), sha256: try sha256(ofFile: path)))
        }
        bar.finish()
        let manifest = Manifest(
            specVersion: Specification.version, generator: Specification.generator, files: written)
        if !inputsOnly {
            try merge(manifest, suites: suites, tier: tier, seed: seed, directory: directory)
        }
        return manifest
    }

    private static func merge(_ manifest: Manifest, suites: [Suite], tier: Tier, seed: UInt64, directory: String) throws
    {
        let path = "\(directory)/MANIFEST.json"
        var files = manifest.files
        if FileManager.default.fileExists(atPath: path) {
            let old = try Manifest(reading: path)
            let names = Set(suites.map(\.rawValue))
            let fresh = Set(files.map(\.path))
            for file in old.files {
                if names.contains(file.suite) {
                    if !fresh.contains(file.path) {
                        try? FileManager.default.removeItem(atPath: "\(directory)/\(file.path)")
                    }
                } else if file.tier == tier.rawValue, file.seed == seed, old.specVersion == manifest.specVersion {
                    files.append(file)
                }
            }
        }
        try Manifest(specVersion: manifest.specVersion, generator: manifest.generator, files: files).write(to: path)
    }

    static func fileSize(_ path: String) throws -> Int {
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        return (attributes[.size] as? NSNumber)?.intValue ?? 0
    }
}

/// What a verb could not do, for people.
struct CommandError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
