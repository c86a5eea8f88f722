import ArgumentParser
import Goldens
import ModelSpec

struct Operations: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the operations, or what one of them takes and gives.",
        discussion: """
            Without a name, prints one line for each operation. With a name, prints its recipe keys, inputs and outputs: types, \
            shapes in letters, ranges, and when each is present. A letter has one size in all shapes of a case. --json prints the same \
            as JSON, for programs that read or write cases.
            """)

    @Argument(help: ArgumentHelp("An operation, such as dot.gemm.", valueName: "name"))
    var name: String?

    @Flag(name: .long, help: "Print JSON.")
    var json = false

    @Flag(name: .long, help: "Print the tables of the documentation.")
    var markdown = false

    @Flag(name: .long, help: "Print the tensors of a training step in execution order, as the specification's tables.")
    var step = false

    func validate() throws {
        guard [json || name != nil, markdown, step].count(where: \.self) <= 1 else {
            throw ValidationError("--markdown and --step print whole tables and take nothing beside them.")
        }
    }

    func run() throws {
        if markdown {
            print(OperationSignature.markdown, terminator: "")
        } else if step {
            print(StepPlan.markdown, terminator: "")
        } else if let name {
            let signature = try OperationSignature.require(name)
            if json {
                print(try signature.json.text(indented: true))
            } else {
                for line in signature.lines { print(line) }
            }
        } else if json {
            print(try OperationSignature.table.text(indented: true))
        } else {
            let width = OperationSignature.all.map(\.name.count).max() ?? 0
            for suite in Suite.allCases {
                print("\(suite.rawValue)")
                for one in OperationSignature.all where one.suite == suite {
                    print("  \(one.name)\(String(repeating: " ", count: width - one.name.count))  \(one.summary)")
                }
            }
        }
    }
}
