import Engine
import ModelSpec

/// What a step would take on clusters, as a table (see ``NetworkModel``).
enum NetworkTable {
    /// The numbers of ranks that it has.
    static let sizes = [2, 4, 8, 16, 64, 256, 1024]

    static func lines(
        _ network: NetworkModel, _ c: ModelConfiguration, seconds: StepSeconds,
        codec: (Compression) -> NetworkModel.Codec
    ) -> [String] {
        let elements = c.parameters.reduce(0) { $0 + $1.count }
        let tokens = Double(c.batch * c.sequenceLength) / Double(c.ranks)
        var lines = [
            "network      estimated, not measured: \((network.bandwidth * 8e-6).rounded() / 1000) Gbit/s each way a rank, \(time(network.latency)) a message; a rank's \(compact(tokens, "tokens")) a step take \(time(seconds.passes)) forward and backward and \(time(seconds.update)) to update, as here",
            row(["ranks", "gradients", "sent a rank", "exchange", "coding", "no overlap", "overlap", "tokens/s"]),
        ]
        let codecs = Compression.allCases.map { ($0, codec($0)) }
        for ranks in sizes {
            for (compression, codec) in codecs {
                let bytes = c.parameters.reduce(0) { $0 + compression.bytes($1.count) }
                let estimate = network.estimate(
                    NetworkModel.Work(
                        elements: elements, bytes: bytes, tokens: tokens, passes: seconds.passes,
                        update: seconds.update, codec: codec), ranks: ranks)
                lines.append(
                    row([
                        "\(ranks)", compression == .none ? "fp32" : compression.rawValue,
                        compact(estimate.bytes, "B"), time(estimate.exchange), time(estimate.coding),
                        time(estimate.apart), time(estimate.overlapped),
                        "\(rate(estimate.rate.apart)) to \(rate(estimate.rate.overlapped))",
                    ]))
            }
        }
        return lines
    }

    private static let widths = [7, 11, 13, 10, 10, 12, 10, 22]

    private static func row(_ cells: [String]) -> String {
        zip(cells, widths).map { String(repeating: " ", count: max(1, $1 - $0.count)) + $0 }.joined()
    }

    /// Tokens a second, without the unit.
    private static func rate(_ value: Double) -> String {
        let text = compact(value, "")
        return String(text[..<(text.lastIndex { $0 != " " }.map { text.index(after: $0) } ?? text.startIndex)])
    }

    /// Seconds with three digits: 12.3 ms.
    static func time(_ seconds: Double) -> String {
        if seconds >= 999.5 { return "\(Int(seconds.rounded())) s" }
        if seconds >= 0.9995 { return compact(seconds, "s") }
        if seconds >= 0.9995e-3 { return compact(seconds * 1e3, "ms") }
        return compact(seconds * 1e6, "µs")
    }
}
