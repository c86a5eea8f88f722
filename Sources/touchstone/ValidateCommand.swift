import ArgumentParser
import Cases
import Checker
import Foundation
import Goldens
import Platform

/// Where a report goes and how it looks.
struct ReportOptions: ParsableArguments {
    @Option(name: .long, help: "text, json, junit (XML for build servers) or html (one page with pictures).")
    var format: ReportFormat = .text

    @Option(
        name: [.short, .long],
        help: ArgumentHelp("Write the report to this file instead of standard output.", valueName: "file"))
    var output: String?

    @Option(
        name: .long, help: ArgumentHelp("Show so many failing outputs in detail.", valueName: "n"),
        reading: Number.whole(0...1 << 30))
    var details = 8

    @Flag(name: .long, help: "Print nothing but errors; the exit status tells.")
    var quiet = false

    /// How many outputs' pictures are to be kept while judging.
    var pictures: Int { format == .html ? details : 0 }

    func write(_ report: Report) throws {
        let text =
            switch format {
            case .text: TextReport(usesColour: allowsColour(output: output), detailLimit: details).text(report)
            case .json: try report.json.text(indented: true) + "\n"
            case .junit: JUnitReport().text(report)
            case .html: HTMLReport(detailLimit: details).text(report)
            }
        try touchstone.write(text, to: output, quiet: quiet)
    }
}

struct Validate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Judge an implementation: a file that it wrote, a command that writes one, or a shared library.",
        discussion: """
            FILE.h5 holds the same cases as a golden file, with outputs/ filled by the implementation. Its suite is read from the file, or \
            given by --goldens as one golden file.

            With --exec the command runs once for each golden file of the suites, through /bin/sh, with {in} replaced by a file of \
            recipes and inputs and {out} by the path to write to:

              touchstone validate --suite dot --exec 'python my_kernel.py {in} {out}'

            With --library a shared library with the functions of touchstone.h answers each case, loaded in a process of its own:

              cc -O2 -shared -fPIC -I Sources/CTouchstonePlugin/include \\
                mine.c -o libmine.so
              touchstone validate --library ./libmine.so

            Every output gets a verdict: exact, legal reordering (inside the bound and unbiased), within tolerance, in distribution, outside, \
            missing, malformed, or failed (a crash, a hang, an error of its own; the next case or file is asked all the same). --policy says what is \
            allowed: to everything (--policy exact), to operations (--policy dot.gemm=bound --policy 'math.*=ulp:1') or to one output of them \
            (--policy attention.forward/z=ulp:2); the last that names an output holds.

              exact         every bit; NaNs are one class
              ulp:N         at most N representable values apart
              bound         what another order of summation may give: inside the
                            bound, no bias, no excess of variance
              distribution  for samplers with random numbers of their own: a test
                            of fit that refuses a right one once in a million
                            outputs, and one that is 0.1 away in 999 of 1000;
                            cases with too few draws for that are not judged,
                            and an error if no other case has enough

            Without --policy each operation has a standard policy; --list-policies shows them. A tolerance that zeros or NaNs would pass is \
            refused as vacuous.

            A case that is answered with no output at all is skipped and counted: the implementation does not have it. With --require-all such \
            outputs are missing.

            Exit status: 0 if all that was answered conforms, 1 if not, 2 if some of it could not be judged, or nothing was answered.
            """)

    @OptionGroup var subject: SubjectOptions

    @Flag(name: .long, help: "Show every operation's standard policy and why, and end.")
    var listPolicies = false

    @OptionGroup var report: ReportOptions

    func validate() throws {
        if listPolicies { return }
        try subject.requireSubject()
    }

    func run() async throws {
        if listPolicies { return print(Self.policies, terminator: "") }
        let result = try await subject.judge(label: "validate", pictures: report.pictures, quiet: report.quiet)
        try report.write(result)
        try end(result.judgement)
    }

    /// One line an operation.
    private static var policies: String {
        let rows = OperationCatalog.all.map { operation in
            let standard = Policy.Standard.of(operation.name)
            return (operation.name, standard.policy.description, standard.reason)
        }
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { name, policy, reason in
            "\(name.padding(toLength: width, withPad: " ", startingAt: 0))  \(policy.padding(toLength: 5, withPad: " ", startingAt: 0))  \(reason)\n"
        }.joined()
    }
}
