import ArgumentParser
import Cases
import Checker
import EngineOperations
import Foundation
import GoldenIO
import Goldens
import JSON
import ModelSpec
import Platform

extension Policy: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

struct Fuzz: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Random and adversarial inputs: the reference against the engine, a command or a library.",
        discussion: """
            Makes random valid cases of every operation that aim at boundaries (ties, subnormals, overflow, cancellation, ends of tiles, rows that \
            see nothing, thresholds of codes), lets the reference and the target answer them, and compares. The engine must have every bit; others are \
            judged by each operation's standard policy, as by `validate`.

            Failing cases fall into classes: the operation, what the case aims at, the output, and the kind of difference (NaN for a number, zero, \
            another value, ...). The first of each class is made as small as it goes and still fails in that way: sizes, recipe, elements. The \
            report says how many cases fell into each class. The smallest forms are written to \
            --output as a golden file, which `dump`, `check --goldens` and `validate --goldens` read, and shown in bits and decimal.

            A case depends on --seed and its number alone: not on threads, time, or the operations that are selected. --only N makes case N again.

              touchstone fuzz --seconds 60
              touchstone fuzz --exec './my_kernel {in} {out}' --suite dot --cases 500
              touchstone fuzz --library ./libmine.so --suite squinch --seconds 600
              touchstone fuzz --seconds 3600 --resume night.json

            The engine runs in this process, so that a trap in it would end this command too. As a command it is held at arm's length:

              touchstone fuzz --exec 'touchstone evaluate {in} {out} --backend engine'

            Exit status: 0 none failed, 1 a failure was found and written, 2 could not run, 64 usage. Ctrl-C ends the run with its summary and exit \
            status 130, SIGTERM with 143.
            """)

    enum Target: String, ExpressibleByArgument, CaseIterable { case engine, exec, library }

    @Option(name: .long, help: "A suite whose operations to try; may be given several times. All by default.")
    var suite: [Suite] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "An operation to try, or several: * stands for any text, ? for a character; may be given several times. All by default.",
            valueName: "operation"))
    var operation: [NamePattern] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Operations not to try, with * and ? as in --operation; may be given several times.", valueName: "operation"
        ))
    var exclude: [NamePattern] = []

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How many cases to ask, those before --resume included; 2000 where neither this nor --seconds is given.",
            valueName: "n"), transform: Number.whole(1...1 << 50))
    var cases: Int?

    @Option(name: .long, help: ArgumentHelp("How long to run.", valueName: "s"), transform: Number.positive(1e9))
    var seconds: Double?

    @Option(
        name: .long,
        help: ArgumentHelp("Selects the cases: decimal, or hexadecimal after 0x.", valueName: "seed"),
        transform: Number.seed)
    var seed: Seed?

    @Option(
        name: .long, help: ArgumentHelp("Judge this one case.", valueName: "n"), transform: Number.whole(0...1 << 50))
    var only: Int?

    @Option(name: .long, help: "engine, exec or library: what to try.")
    var against: Target?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "The command to try, run once a case; {in} and {out} stand for paths.", valueName: "command"))
    var exec: String?

    @Option(
        name: .long, help: ArgumentHelp("The shared library to try; it implements touchstone.h.", valueName: "lib.so"))
    var library: String?

    @Option(
        name: .long, help: ArgumentHelp("Seconds that one case may take a command or library.", valueName: "s"),
        reading: Number.positive(1e6))
    var timeout: Double = 60

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Megabytes of memory that the library may take; 0: as much as there is.", valueName: "megabytes"),
        reading: Number.whole(0...1 << 30))
    var memory = 4096

    @OptionGroup var engine: EngineOptions

    @Option(name: .long, help: "exact, ulp:N or bound, for every output; bits by default for the engine.")
    var policy: Policy?

    @Option(name: .long, help: "class: all NaNs are equal. bits: every bit counts.")
    var nan: NaNRule = .asClass

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How often a failing case may be tried in smaller forms; 300 by default for a command, else 2000.",
            valueName: "n"), transform: Number.whole(0...1 << 30))
    var shrinkLimit: Int?

    @Option(
        name: [.short, .long],
        help: ArgumentHelp("The golden file of failing cases; written when there are any.", valueName: "file.h5"))
    var output = "touchstone-fuzz.h5"

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Go on from this file, which is begun if it is not there and kept up to date while running.",
            valueName: "state.json"))
    var resume: String?

    @Option(name: .long, help: "text or json.")
    var format: PlainFormat = .text

    @Option(
        name: .long,
        help: ArgumentHelp("Write the report to this file instead of standard output.", valueName: "file"))
    var report: String?

    @Flag(name: .long, help: "Print nothing but errors; the exit status tells.")
    var quiet = false

    private var target: Target { against ?? (exec != nil ? .exec : library != nil ? .library : .engine) }

    func validate() throws {
        if cases != nil && seconds != nil { throw ValidationError("Give --cases or --seconds, not both.") }
        if only != nil {
            if cases != nil || seconds != nil || resume != nil {
                throw ValidationError("--only judges one case: without --cases, --seconds and --resume.")
            }
        }
        if let exec, !exec.contains("{out}") {
            throw ValidationError("The command of --exec must say where {out} goes.")
        }
        if (target == .exec) != (exec != nil) {
            throw ValidationError("--against exec and --exec 'CMD {in} {out}' go together.")
        }
        if (target == .library) != (library != nil) {
            throw ValidationError("--against library and --library LIB go together.")
        }
        for (option, patterns) in [("--operation", operation), ("--exclude", exclude)] {
            for pattern in patterns where !FuzzCases.operations.contains(where: pattern.matches) {
                do { _ = try OperationCatalog.operation(named: pattern.text) } catch {
                    // The error may end in a question.
                    let text = "\(error)"
                    throw ValidationError("\(option): \(text)\(text.hasSuffix("?") ? "" : ".")")
                }
                throw ValidationError("\(option): no case is made of '\(pattern)'.")
            }
        }
        if operations.isEmpty { throw ValidationError("--suite, --operation and --exclude leave no operation to try.") }
    }

    /// The operations of --suite and --operation, all where neither is given, less those of --exclude.
    private var operations: [String] {
        FuzzCases.operations.filter { name in
            if exclude.contains(where: { $0.matches(name) }) { return false }
            if suite.isEmpty && operation.isEmpty { return true }
            let itsSuite = (try? OperationCatalog.operation(named: name))?.suite
            return operation.contains { $0.matches(name) } || suite.contains { $0 == itsSuite }
        }
    }

    func run() async throws {
        let implementation = try await makeImplementation()
        let fuzzer = Fuzzer(
            implementation,
            options: JudgingOptions(policy: policy ?? (target == .engine ? .exact : nil), nanRule: nan),
            shrinkLimit: shrinkLimit ?? (target == .exec ? 300 : 2000))
        let lock = try resume.map(Exclusive.file)
        defer { lock?.release() }
        var run = try await begin(fuzzer)
        if let only {
            guard run.operations.contains(FuzzCases.operation(ofCase: only)) else {
                throw CommandError("case \(only) is one of \(FuzzCases.operation(ofCase: only)), which is not selected")
            }
            try await fuzzer.run(only: only, into: &run)
        } else {
            try await go(fuzzer, &run)
        }
        try save(run, implementation.name)
        if !run.failures.isEmpty { try run.write(to: output) }
        let result = FuzzReport(run, subject: implementation.name, path: run.failures.isEmpty ? nil : output)
        try show(result)
        guard run.coverage.cases > 0 else {
            if Interruption.isRequested { throw Interrupted() }
            throw JudgingError.nothingToJudge("'\(implementation.name)' has none of the operations that were selected")
        }
        if Interruption.isRequested {
            Interruption.tell()
            throw ExitCode(Interruption.exitStatus)
        }
        try end(run.judgement)
    }

    private func go(_ fuzzer: Fuzzer, _ run: inout FuzzRun) async throws {
        let start = monotonicSeconds()
        let limit = cases ?? (seconds == nil ? 2000 : nil)
        let bar = ProgressBar(
            "fuzz", total: UInt64(limit ?? Int(min(seconds ?? 0, 1e9))), unit: limit == nil ? "s" : "cases",
            quiet: quiet)
        defer { bar.finish() }
        var lastSaved = start
        var judged = run.coverage.cases
        try await fuzzer.run(&run) { run in
            // Cases of operations that the target does not have count too: else a target without any would never end.
            let done = run.coverage.cases + run.coverage.missing.values.reduce(0, +)
            if let limit { return done >= limit }
            return monotonicSeconds() - start >= (seconds ?? 0)
        } progress: { run in
            judged += 1
            let now = monotonicSeconds()
            let failed = run.coverage.failures == 0 ? "none failed" : "\(run.coverage.failures) failed"
            bar.update(
                limit == nil ? UInt64(now - start) : UInt64(judged),
                note: limit == nil ? "\(counted(judged, "case")), \(failed)" : failed)
            if now - lastSaved >= 10 {
                lastSaved = now
                // The cases first: a state never names one that is not in the file.
                if resume != nil && !run.failures.isEmpty { try run.write(to: output) }
                try save(run, fuzzer.implementation.name)
            }
        } shrinking: { attempts in
            bar.update(
                limit == nil ? UInt64(monotonicSeconds() - start) : UInt64(judged),
                note: "a failing case, made smaller: attempt \(attempts)")
        }
    }

    /// A new run, or the one that --resume names; its failures are judged again.
    private func begin(_ fuzzer: Fuzzer) async throws -> FuzzRun {
        guard let resume, FileManager.default.fileExists(atPath: resume) else {
            return FuzzRun(seed: seed?.value ?? GoldenSuites.defaultSeed, operations: operations)
        }
        var run: FuzzRun
        let known: [FuzzRun.KnownFailure]
        do {
            guard let text = String(validating: try Files.bytes(of: resume), as: UTF8.self) else {
                throw CommandError("is not UTF-8")
            }
            (run, known) = try FuzzRun.resuming(try JSONValue(text: text))
        } catch let error as FileError { throw error } catch { throw CommandError("\(resume): \(error)") }
        if let seed, seed.value != run.seed {
            throw CommandError(
                "\(resume) is of seed 0x\(String(run.seed, radix: 16)), not 0x\(String(seed.value, radix: 16))")
        }
        if !(suite.isEmpty && operation.isEmpty && exclude.isEmpty) && operations != run.operations {
            throw CommandError("\(resume) is of other operations than --suite, --operation and --exclude select")
        }
        if known.isEmpty { return run }
        let file = try GoldenFile(reading: output)
        for failure in known {
            let minimal = try file.readCase(failure.name)
            if let fault = try await fuzzer.fault(of: minimal) {
                run.failures.append(
                    FuzzFailure(
                        number: failure.number, caseClass: failure.caseClass, minimal: minimal, fault: fault,
                        difference: failure.difference, attempts: failure.attempts, cases: failure.cases))
            }
        }
        return run
    }

    private func save(_ run: FuzzRun, _ subject: String) throws {
        guard let resume, only == nil else { return }
        try Files.replace(resume, with: Array((try run.state(subject: subject).text(indented: true) + "\n").utf8))
    }

    private func show(_ result: FuzzReport) throws {
        let text =
            format == .text
            ? result.text(usesColour: allowsColour(output: report)) : try result.json.text(indented: true) + "\n"
        try write(text, to: report, quiet: quiet)
    }

    private func makeImplementation() async throws -> any Implementation {
        switch target {
        case .engine:
            let context = try engine.context()
            return EngineImplementation(catalog: EngineCatalog(context), name: EngineOptions.name(context))
        case .exec:
            return ShellCommand(
                process: ProcessImplementation(try PluginProcess(command: exec ?? "", timeout: .seconds(timeout))))
        case .library:
            var limits = PluginLibrary.Limits(memory: memory == 0 ? nil : memory << 20)
            limits.seconds = timeout
            let library = PluginLibrary(path: library ?? "", limits: limits)
            try await library.open()
            return library
        }
    }
}

/// A command for /bin/sh that is run once a case.
private struct ShellCommand: Implementation {
    let process: ProcessImplementation
    var name: String { process.name }

    /// - Throws: what the process does; ``CommandError`` if the shell says that there is no such command.
    func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
        do { return try await process.outputs(for: goldenCase) } catch let failure as ImplementationFailure {
            if failure.kind == .exit(status: 126) || failure.kind == .exit(status: 127) {
                throw CommandError("the command cannot be run: \(failure)")
            }
            throw failure
        }
    }
}

/// The engine as an implementation among others.
struct EngineImplementation: Implementation {
    let catalog: EngineCatalog
    let name: String

    func outputs(for goldenCase: GoldenCase) async throws -> TensorGroup? {
        guard Self.names.contains(goldenCase.op) else { return nil }
        do { return try catalog.evaluate(goldenCase).outputs } catch {
            throw ImplementationFailure(
                .reported, implementation: name, goldenCase: goldenCase.name,
                "refused what the reference answers: \(error)")
        }
    }

    private static let names = Set(EngineCatalog.names)
}
