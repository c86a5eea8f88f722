import Foundation

/// A page about a training run: facts, the loss curve, text of the model. One file, readable without a network, light and dark.
enum TrainingPage {
    /// Something to show of a run.
    struct Section {
        let title: String
        /// What it says, as it stands, or nil.
        var text: String?
        /// A picture beside or in place of it.
        var svg: String?
    }

    static func html(title: String, command: String, facts: [(String, String)], _ sections: [Section]) -> String {
        var body = "<h1>\(escaped(title))</h1>\n<p class=\"command\"><code>\(escaped(command))</code></p>\n<table>\n"
        for (name, value) in facts {
            body += "<tr><th scope=\"row\">\(escaped(name))</th><td>\(escaped(value))</td></tr>\n"
        }
        body += "</table>\n"
        for section in sections {
            body += "<h2>\(escaped(section.title))</h2>\n"
            if let svg = section.svg { body += "<figure>\(svg)</figure>\n" }
            if let text = section.text { body += "<pre>\(escaped(text))</pre>\n" }
        }
        return """
            <!DOCTYPE html>
            <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
            <title>\(escaped(title))</title>
            <style>
            :root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --soft: #666; --rule: #d8d8d8; --one: #0072b2; --two: #d55e00; }
            @media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --soft: #a0a0a0; --rule: #3a3d42; --one: #56b4e9; --two: #e69f00; } }
            body { margin: 1.5rem auto; max-width: 52rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
            h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
            table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
            th { font-weight: 600; white-space: nowrap; } pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--rule); border-radius: 6px; padding: .8rem; font-size: .85rem; }
            figure { margin: 0; } svg { width: 100%; height: auto; } code { overflow-wrap: anywhere; }
            svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } .grid { stroke: var(--rule); } .one { stroke: var(--one); fill: none; stroke-width: 1.5; } .mean { stroke: var(--two); fill: none; stroke-width: 2.5; }
            </style></head><body>
            \(body)</body></html>

            """
    }

    static func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            default: result.append(character)
            }
        }
        return result
    }

    /// The loss of every step, and its mean over the last fiftieth of the run so far.
    static func lossCurve(_ losses: [Float], first: Int) -> String {
        let finite = losses.filter(\.isFinite)
        guard let low = finite.min(), let high = finite.max(), losses.count > 1 else { return "" }
        let (width, height, left, bottom) = (720.0, 320.0, 44.0, 36.0)
        let (bottomLoss, topLoss) = (Double(low).rounded(.down), max(Double(high).rounded(.up), Double(low) + 1))
        func x(_ index: Int) -> Double { left + (width - left - 10) * Double(index) / Double(losses.count - 1) }
        func y(_ loss: Double) -> Double { 10 + (height - bottom - 10) * (topLoss - loss) / (topLoss - bottomLoss) }
        func short(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
        var svg =
            "<svg viewBox=\"0 0 \(short(width)) \(short(height))\" role=\"img\" aria-label=\"Loss against step, from \(decimals(losses[0])) to \(decimals(losses[losses.count - 1]))\">"
        let stride = topLoss - bottomLoss > 8 ? 2.0 : topLoss - bottomLoss > 3 ? 1.0 : 0.5
        var line = bottomLoss
        while line <= topLoss {
            svg +=
                "<line class=\"grid\" x1=\"\(short(left))\" x2=\"\(short(width - 10))\" y1=\"\(short(y(line)))\" y2=\"\(short(y(line)))\"/><text x=\"\(short(left - 8))\" y=\"\(short(y(line) + 4))\" text-anchor=\"end\">\(line)</text>"
            line += stride
        }
        for part in 0...4 {
            let index = (losses.count - 1) * part / 4
            svg +=
                "<text x=\"\(short(x(index)))\" y=\"\(short(height - 16))\" text-anchor=\"\(part == 4 ? "end" : "middle")\">\(first + index)</text>"
        }
        svg +=
            "<text x=\"\(short(width / 2))\" y=\"\(short(height - 2))\" text-anchor=\"middle\">step; thin: loss of the step, thick: mean of the last \(window(losses.count))</text>"
        // At most two points a pixel.
        let every = max(1, losses.count / 1440)
        var (points, means) = ("", "")
        var sum = 0.0
        let window = window(losses.count)
        for (index, loss) in losses.enumerated() {
            sum += Double(loss)
            if index >= window { sum -= Double(losses[index - window]) }
            guard index % every == 0, loss.isFinite else { continue }
            points += "\(short(x(index))),\(short(y(Double(loss)))) "
            means += "\(short(x(index))),\(short(y(sum / Double(min(index + 1, window))))) "
        }
        return svg
            + "<polyline class=\"one\" points=\"\(points)\"/><polyline class=\"mean\" points=\"\(means)\"/></svg>"
    }

    private static func window(_ count: Int) -> Int { max(1, count / 50) }
}
