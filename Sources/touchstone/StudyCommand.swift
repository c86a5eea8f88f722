import ArgumentParser
import Engine
import ExactMath
import Foundation
import Platform
import Studies
import TrainingData

struct StudyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "study",
        abstract: "Run an experiment that shows what a technique does, and write a page with pictures.",
        discussion: """
            Each study trains small models or measures kernels, states its finding in one sentence with its uncertainty, and writes NAME.html (one \
            page, no network) and NAME.csv (what every run and measurement gave) into the folder of --output. A study is reproducible from its seed, but \
            for measured times.

            \(Study.all.map { "  \($0.name.padding(toLength: 12, withPad: " ", startingAt: 0))\($0.summary)" }.joined(separator: "\n"))

            Default sizes take minutes on two cores; --steps, --seeds and --width make a study longer and larger.
            """)

    @Argument(help: "squinch, zreg, clamp, visibility, gumbel, precision; or all.")
    var name: String

    @Option(name: [.short, .long], help: ArgumentHelp("The folder for the page and the CSV.", valueName: "dir"))
    var output = "."

    @Option(
        name: .long,
        help: "Steps of each training run, or repetitions of a measurement; each study has its own default.",
        transform: Number.whole(1...1_000_000))
    var steps: Int?

    @Option(
        name: .long,
        help: "Training runs of each method, which differ in their seeds; one has no interval, more make it narrower.",
        transform: Number.whole(2...1000))
    var seeds: Int?

    @Option(name: .long, help: "The seed of the first run; the others follow.", reading: Number.seed)
    var seed: Seed = Seed(1)

    @Option(
        name: .long,
        help: "The width of the models, a multiple of 16; visibility has a size of its own, precision no model.",
        reading: Number.multiple(of: 16, in: 16...4096))
    var width = 64

    @Option(
        name: .long, help: ArgumentHelp("Text to train on; this package's own sources by default.", valueName: "path"))
    var data: String?

    @OptionGroup var engine: EngineOptions

    @Flag(name: .long, help: "Print errors only.")
    var quiet = false

    func validate() throws {
        guard name == "all" || Study.named(name) != nil else {
            throw ValidationError(
                "There is no study '\(name)'; expected \(Study.all.map(\.name).joined(separator: ", ")), or all.")
        }
    }

    func run() throws {
        var options = StudyOptions()
        (options.steps, options.seeds, options.seed, options.width) = (steps, seeds, seed.value, width)
        let path = try data ?? DefaultCorpus.path()
        let context = try engine.context()
        try Files.createFolder(output)
        for study in name == "all" ? Study.all : Study.all.filter({ $0.name == name }) {
            let (page, csv) = ("\(output)/\(study.name).html", "\(output)/\(study.name).csv")
            for file in [page, csv] { try Files.requireWritable(file) }
            let lock = try Exclusive.file(page)
            defer { lock.release() }
            let bar = ProgressBar(study.name, total: 10_000, unit: "steps", quiet: quiet)
            let start = monotonicSeconds()
            let result = try study.result(
                options, context: context,
                corpus: {
                    try TrainingCorpus(reading: path, sequenceLength: $0, quiet: quiet)
                }
            ) { done, what in
                try Interruption.check()
                bar.update(UInt64(done * 10_000), note: what)
            }
            bar.finish()
            let command = CommandLine.arguments.dropFirst().reduce("touchstone") { $0 + " " + $1 }
            try Files.replace(page, with: Array(result.html(command: command).utf8))
            try Files.replace(csv, with: Array(result.csvText.utf8))
            guard !quiet else { continue }
            print("\(study.name): \(result.finding)")
            print("  \(page), \(csv); \(duration(monotonicSeconds() - start))")
        }
    }
}
