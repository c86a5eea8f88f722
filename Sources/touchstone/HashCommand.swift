import ArgumentParser
import Cases
import GoldenIO

struct Hash: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the SHA-256 of golden files, or the fingerprints of their cases.",
        discussion: """
            The SHA-256 is of the file's bytes, as MANIFEST.json lists it. With --cases one line a case: the fingerprint of \
            its outputs, a SHA-256 chain over name, type, shape and bits that is the same for every file that holds the \
            same results, whoever wrote it. --inputs fingerprints the inputs instead.
            """)

    @Argument(help: ArgumentHelp("Golden files.", valueName: "file.h5"))
    var files: [String]

    @Flag(name: .long, help: "A fingerprint for each case.")
    var cases = false

    @Flag(name: .long, help: "Fingerprint the inputs, not the outputs.")
    var inputs = false

    func validate() throws {
        if files.isEmpty { throw ValidationError("Name at least one file.") }
    }

    func run() throws {
        // A chain over nothing is the same for all: no result to compare.
        var without: [String] = []
        var unreadable: [GoldenIOError] = []
        for path in files {
            guard cases || inputs else {
                print("\(try sha256(ofFile: path))  \(path)")
                continue
            }
            let file = try GoldenFile(reading: path)
            if file.caseNames.isEmpty { without.append("\(path) has no case") }
            for name in file.caseNames {
                let before = unreadable.count
                let goldenCase = try file.readCase(name, groups: [inputs ? .inputs : .outputs]) {
                    unreadable.append($2)
                }
                if unreadable.count > before { continue }
                var fingerprint = Fingerprint()
                let group = inputs ? goldenCase.inputs : goldenCase.outputs
                if group.isEmpty {
                    without.append(
                        "\(path): case '\(name)' has no \(inputs ? "inputs" : "outputs; --inputs takes its inputs")")
                    continue
                }
                for tensor in group.tensors { fingerprint.append(tensor.name, tensor.tensor) }
                print("\(fingerprint.hexadecimal)  \(path)  \(name)")
            }
        }
        if let first = unreadable.first {
            throw CommandError(
                "no fingerprint of what cannot be read: \(first)\(unreadable.count > 1 ? "\nand \(unreadable.count - 1) more such" : "")"
            )
        }
        if let first = without.first {
            throw CommandError(
                "no fingerprint of nothing: \(first)\(without.count > 1 ? ", and \(without.count - 1) more such" : "")")
        }
    }
}
