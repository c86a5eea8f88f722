import ArgumentParser
import Cases
import EngineOperations
import GoldenIO
import Goldens
import JSON
import ModelSpec
import Platform

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fill in the reference's, or the engine's, answers for any file of cases.",
        discussion: """
            Reads the cases of IN.h5 (attributes op and recipe, datasets under inputs/), computes outputs/, truth/ and \
            bounds/ with the reference, and writes OUT.h5 with everything in it; a recipe that leaves out kappa and n of the \
            policy `bound` gets the operation's own. What IN.h5 holds in outputs/ is replaced. \
            `touchstone generate --inputs-only` writes files to start from; any HDF5 library can write one.

            With --with KEY=VALUE the answers are those of another recipe, while the file keeps the recipe it came with; \
            --with KEY:OLD=VALUE does so only where the recipe says OLD. --with rounding:rne=rtz gives what an \
            implementation that truncates would give.
            """)

    @Argument(help: ArgumentHelp("The file of cases.", valueName: "in.h5"))
    var input: String

    @Argument(help: ArgumentHelp("The file to write.", valueName: "out.h5"))
    var output: String

    @Option(name: .long, help: "What computes: reference, or engine (outputs alone, without truth and bounds).")
    var backend: Backend = .reference

    @OptionGroup var engine: EngineOptions

    @Option(
        name: .customLong("with"),
        help: ArgumentHelp(
            "Answer as if the recipe said so, where it has the key; may be given several times.",
            valueName: "key[:old]=value"))
    var overrides: [RecipeOverride] = []

    @Flag(name: .long, help: "Print nothing but errors.")
    var quiet = false

    enum Backend: String, ExpressibleByArgument, CaseIterable { case reference, engine }

    /// `key=value` or `key:old=value`.
    struct RecipeOverride: ExpressibleByArgument {
        let key: String
        let old: JSONValue?
        let value: JSONValue

        init?(argument: String) {
            let sides = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard sides.count == 2 else { return nil }
            let left = sides[0].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard !left[0].isEmpty else { return nil }
            key = String(left[0])
            old = left.count == 2 ? Self.parse(left[1]) : nil
            value = Self.parse(sides[1])
        }

        private static func parse(_ text: Substring) -> JSONValue {
            switch text {
            case "true": .bool(true)
            case "false": .bool(false)
            default: Int64(text).map(JSONValue.integer) ?? Double(text).map(JSONValue.number) ?? .string(String(text))
            }
        }

        func apply(to recipe: inout [String: JSONValue]) {
            guard let current = recipe[key], old == nil || old == current else { return }
            recipe[key] = value
            recipe[key + "_bits"] = nil
        }
    }

    func run() throws {
        let file = try GoldenFile(reading: input)
        guard !file.caseNames.isEmpty else { throw CommandError("\(input) has no case") }
        let writer = try GoldenWriter(path: output, header: header(of: file))
        engine.applyToReference()
        let catalog = backend == .engine ? EngineCatalog(try engine.context()) : nil
        let bar = ProgressBar("evaluate", total: UInt64(file.caseNames.count), unit: "cases", quiet: quiet)
        var elements = 0
        var known: Set<String> = []
        var names = file.caseNames.makeIterator()
        var done = 0
        while true {
            var recipes: [[String: JSONValue]] = []
            let cases = try CaseWork.batch {
                guard let name = names.next() else { return nil }
                try Interruption.check()
                var goldenCase = try file.readCase(name, groups: [.inputs])
                recipes.append(goldenCase.recipe)
                for override in overrides {
                    if goldenCase.recipe[override.key] != nil { known.insert(override.key) }
                    override.apply(to: &goldenCase.recipe)
                }
                return goldenCase
            }
            if cases.isEmpty { break }
            let answers = catalog.map { catalog in
                cases.map { one in
                    Result {
                        try Interruption.check()
                        return try catalog.evaluate(one)
                    }
                }
            }
            for (answer, recipe) in zip(answers ?? CaseWork.answers(to: cases, done: done, bar), recipes) {
                var answered: GoldenCase
                do { answered = try answer.get() } catch let interrupted as Interrupted { throw interrupted } catch {
                    throw CommandError("\(input): \(error)")
                }
                answered.recipe = recipe
                // Who judges by the file needs no table of operations.
                if !answered.bounds.isEmpty, let constants = BoundConstants(answered) {
                    answered.recipe = constants.stated(in: recipe)
                }
                elements += answered.outputs.tensors.reduce(0) { $0 + $1.tensor.count }
                try writer.write(answered)
                done += 1
                bar.update(UInt64(done))
            }
        }
        try writer.finish()
        bar.finish()
        for override in overrides where !known.contains(override.key) && !quiet {
            Terminal.writeError("touchstone: warning: no recipe in \(input) has the key '\(override.key)' of --with\n")
        }
        if !quiet {
            print(
                "\(output): \(counted(file.caseNames.count, "case")), \(counted(elements, "output element")), \(backend.rawValue)"
            )
        }
    }

    private func header(of file: GoldenFile) -> GoldenHeader {
        var header = file.header
        header.specVersion = Specification.version
        header.generator = Specification.generator
        return header
    }
}
