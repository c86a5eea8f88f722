/// A page in one file: readable without a network, light and dark, on a desk and on a telephone.
///
/// What comes from outside passes ``Page/escaped(_:)``; the parts are HTML already.
public struct Page {
    public var title: String
    /// HTML, in order.
    public var parts: [String] = []

    public init(title: String) { self.title = title }

    /// Characters that HTML and XML give a meaning to as entities, and those that neither may hold as U+FFFD.
    public static func escaped(_ text: some StringProtocol) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "\t", "\n", "\r": result.unicodeScalars.append(scalar)
            case _ where scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar.value & 0xFFFE == 0xFFFE:
                result += "\u{FFFD}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }

    /// ``escaped(_:)``, with line breaks and tabs as references, which attributes would turn into spaces.
    public static func escaped(attribute text: String) -> String {
        var result = ""
        for character in escaped(text).unicodeScalars {
            switch character {
            case "\n": result += "&#10;"
            case "\r": result += "&#13;"
            case "\t": result += "&#9;"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }

    public mutating func heading(_ text: String, level: Int = 2, id: String? = nil) {
        let anchor = id.map { " id=\"\(Self.escaped($0))\"" } ?? ""
        parts.append("<h\(level)\(anchor)>\(Self.escaped(text))</h\(level)>")
    }

    public mutating func paragraph(_ text: String, style: String? = nil) {
        parts.append("<p\(style.map { " class=\"\($0)\"" } ?? "")>\(Self.escaped(text))</p>")
    }

    public mutating func preformatted(_ text: String) { parts.append("<pre>\(Self.escaped(text))</pre>") }

    /// Names and values.
    public mutating func facts(_ rows: [(String, String)]) {
        parts.append(
            "<table class=\"facts\">"
                + rows.map { "<tr><th scope=\"row\">\(Self.escaped($0.0))</th><td>\(Self.escaped($0.1))</td></tr>" }
                .joined(separator: "\n") + "</table>")
    }

    /// A table in a box of its own, which scrolls where the page is narrow. The first row is the head; columns from `numbers` on are numbers.
    public mutating func table(_ rows: [[String]], numbersFrom numbers: Int) {
        guard let head = rows.first else { return }
        func cells(_ row: [String], _ tag: String) -> String {
            row.enumerated().map { column, text in
                "<\(tag)\(tag == "th" ? " scope=\"col\"" : "")\(column >= numbers ? " class=\"number\"" : "")>\(Self.escaped(text))</\(tag)>"
            }.joined()
        }
        let body = rows.dropFirst().map { "<tr>\(cells($0, "td"))</tr>" }.joined(separator: "\n")
        parts.append(
            "<div class=\"scroll\" tabindex=\"0\"><table class=\"grid-table\"><thead><tr>\(cells(head, "th"))</tr></thead><tbody>\(body)</tbody></table></div>"
        )
    }

    /// Pictures beside each other where there is room, each an SVG with what it shows.
    public mutating func figures(_ pictures: [(svg: String, caption: String)]) {
        let items = pictures.filter { !$0.svg.isEmpty }.map {
            "<figure>\($0.svg)<figcaption>\(Self.escaped($0.caption))</figcaption></figure>"
        }
        if !items.isEmpty { parts.append("<div class=\"figures\">\(items.joined(separator: "\n"))</div>") }
    }

    /// One picture over the page's width.
    public mutating func figure(_ svg: String) { parts.append("<figure class=\"wide\">\(svg)</figure>") }

    public var html: String {
        """
        <!DOCTYPE html>
        <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
        <link rel="icon" href="data:,">
        <title>\(Self.escaped(title))</title>
        <style>
        \(Self.style)
        </style></head><body>
        \(parts.joined(separator: "\n"))
        </body></html>

        """
    }

    // Blue, vermilion and green of Okabe and Ito's palette, which colour-blind people tell apart.
    private static let style = """
        :root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --soft: #5c5c5c; --rule: #d8d8d8; --faint: #f3f4f6; --one: #0072b2; --two: #c24e00; --good: #00795a; }
        @media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181b; --soft: #a8a8a8; --rule: #3a3d42; --faint: #1f2226; --one: #56b4e9; --two: #e69f00; --good: #3cc59b; } }
        body { margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
        h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2.2rem; overflow-wrap: anywhere; } h3 { font-size: 1rem; margin-bottom: .3rem; }
        p { max-width: 48rem; overflow-wrap: anywhere; } .soft { color: var(--soft); } .good { color: var(--good); font-weight: 700; } .bad { color: var(--two); font-weight: 700; }
        table { border-collapse: collapse; width: 100%; } th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
        th { font-weight: 600; white-space: nowrap; } thead th { color: var(--soft); font-size: .85rem; } .grid-table, .facts { width: auto; } .facts th { padding-right: 2rem; } .grid-table td.wrap { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; max-width: 36rem; } .grid-table td { white-space: nowrap; overflow-wrap: normal; }
        .number { text-align: right; font-variant-numeric: tabular-nums; } td.mono, code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .85rem; }
        .scroll { overflow-x: auto; margin: .6rem 0; } a { color: var(--one); }
        pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--rule); border-radius: 6px; padding: .8rem; background: var(--faint); } code { overflow-wrap: anywhere; }
        section { border-top: 1px solid var(--rule); margin-top: 2rem; } section h2 { margin-top: 1rem; }
        .figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem 1.5rem; margin: 1rem 0; } figure { margin: 0; min-width: 0; max-width: 34rem; } figure.wide { max-width: none; }
        figcaption { color: var(--soft); font-size: .85rem; line-height: 1.35; } svg { width: 100%; height: auto; display: block; }
        svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .ink { fill: var(--ink); } .grid { stroke: var(--rule); } .axis { stroke: var(--soft); } .one { stroke: var(--one); fill: none; stroke-width: 1.5; } .mean { stroke: var(--two); fill: none; stroke-width: 2.5; }
        .bar { fill: var(--one); } .bar.right { fill: var(--good); } .bar.far { fill: var(--two); } .heat { fill: var(--two); } .dense { fill: var(--one); } .limit { stroke: var(--two); stroke-dasharray: 5 4; stroke-width: 1.5; } .frame { fill: var(--faint); stroke: var(--rule); } .seen { fill: var(--one); }
        .line { fill: none; stroke-width: 1.8; } .marker { stroke: none; } .whisker { stroke-width: 1.2; opacity: .6; }
        :root { --s0: #0072b2; --s1: #c24e00; --s2: #00795a; --s3: #a8478a; --s4: #7a5c00; --s5: #3a7ca5; --s6: #5c5c5c; --s7: #1c1c1c; }
        @media (prefers-color-scheme: dark) { :root { --s0: #56b4e9; --s1: #e69f00; --s2: #3cc59b; --s3: #dd8fc3; --s4: #f0e442; --s5: #9ad0f5; --s6: #a8a8a8; --s7: #e8e8e8; } }
        .line.s0, .whisker.s0 { stroke: var(--s0); } .line.s1, .whisker.s1 { stroke: var(--s1); stroke-dasharray: 7 3; } .line.s2, .whisker.s2 { stroke: var(--s2); stroke-dasharray: 2 3; } .line.s3, .whisker.s3 { stroke: var(--s3); stroke-dasharray: 9 3 2 3; }
        .line.s4, .whisker.s4 { stroke: var(--s4); stroke-dasharray: 5 2; } .line.s5, .whisker.s5 { stroke: var(--s5); stroke-dasharray: 1 2; } .line.s6, .whisker.s6 { stroke: var(--s6); stroke-dasharray: 12 4; } .line.s7, .whisker.s7 { stroke: var(--s7); }
        .whisker { stroke-dasharray: none !important; } .marker.s0 { fill: var(--s0); } .marker.s1 { fill: var(--s1); } .marker.s2 { fill: var(--s2); } .marker.s3 { fill: var(--s3); } .marker.s4 { fill: var(--s4); } .marker.s5 { fill: var(--s5); } .marker.s6 { fill: var(--s6); } .marker.s7 { fill: var(--s7); }
        """
}
