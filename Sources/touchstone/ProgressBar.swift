import Platform
import Synchronization

/// Progress of long work on standard error: a bar with rate and time left on a terminal, a plain line every ten seconds
/// elsewhere, nothing when quiet.
final class ProgressBar: Sendable {
    private let label: String
    private let total: UInt64
    private let unit: String
    private let isQuiet: Bool
    private let start = monotonicSeconds()
    private let isTerminal = Terminal.standardErrorIsTerminal
    /// When something was drawn last; negative before that.
    private let lastDrawn = Mutex(-1.0)

    init(_ label: String, total: UInt64, unit: String, quiet: Bool) {
        self.label = label
        self.total = total
        self.unit = unit
        isQuiet = quiet
    }

    /// - Parameter note: what stands after the numbers.
    func update(_ done: UInt64, note: String = "") {
        guard !isQuiet else { return }
        let elapsed = monotonicSeconds() - start
        lastDrawn.withLock { lastDrawn in
            guard elapsed - lastDrawn >= (isTerminal ? 0.1 : 10) else { return }
            guard isTerminal || lastDrawn >= 0 || elapsed >= 10 else { return }
            lastDrawn = elapsed
            draw(done, elapsed, note)
        }
    }

    private func draw(_ done: UInt64, _ elapsed: Double, _ note: String) {
        let fraction = total == 0 ? 1 : min(1, Double(done) / Double(total))
        let rate = elapsed > 0 ? Double(done) / elapsed : 0
        let left = rate > 0 ? Double(total - min(done, total)) / rate : 0
        // Of seconds as a measure of the work there is no rate.
        let speed = unit == "s" ? "" : "  \(compact(rate, unit))/s"
        // Before the first is done nobody knows how long it takes.
        let pace = rate > 0 ? "\(speed)  \(duration(left)) left" : ""
        let numbers = "\(percent(fraction))\(pace)\(note.isEmpty ? "" : "  \(note)")"
        guard isTerminal else {
            Terminal.writeError("\(label): \(numbers)\n")
            return
        }
        let width = max(10, Terminal.columns - label.count - numbers.count - 6)
        let filled = Int(fraction * Double(width))
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
        Terminal.draw("\r\(label) [\(bar)] \(numbers)\u{1B}[K")
    }

    /// Takes the bar off the screen.
    func finish() {
        if isTerminal && lastDrawn.withLock({ $0 }) >= 0 { Terminal.draw("\r\u{1B}[K") }
    }

    private func percent(_ fraction: Double) -> String {
        let tenths = Int(fraction * 1000)
        return "\(tenths / 10).\(tenths % 10) %"
    }
}

/// A number with three significant digits and a prefix before its unit: 12.3 MB, 724 GFLOP, 25.6 k tokens. A prefix is joined to a unit's symbol and stands apart
/// from a word.
func compact(_ value: Double, _ unit: String) -> String {
    var value = value
    for prefix in ["", "k", "M", "G", "T"] {
        if value < 999.5 || prefix == "T" {
            let scale = value < 9.995 ? 100.0 : value < 99.95 ? 10.0 : 1.0
            let digits = (value * scale).rounded() / scale
            let text = scale == 1 ? "\(Int(digits))" : "\(digits)"
            let isSymbol = unit.count == 1 || unit.contains(where: \.isUppercase) || unit == "ms" || unit == "µs"
            let joint = prefix.isEmpty || isSymbol ? "" : " "
            return "\(text) \(prefix)\(joint)\(unit)"
        }
        value /= 1000
    }
    return "\(value) \(unit)"
}

/// Seconds as people read them: 42 s, 3 min 05 s, 2 h 10 min.
func duration(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded())
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min \(whole % 60 < 10 ? "0" : "")\(whole % 60) s" }
    return "\(whole / 3600) h \(whole % 3600 / 60) min"
}
