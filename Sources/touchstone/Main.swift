import ArgumentParser

@main
struct Touchstone: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "touchstone", abstract: "Placeholder.")
}
