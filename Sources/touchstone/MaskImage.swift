import Cases
import Checker
import Pages
import Platform

/// A picture of a visibility mask: queries down, keys across, a visible cell dark.
struct MaskImage {
    let title: String
    let queries: Int
    let keys: Int
    /// [Q, T]
    let isVisible: [Bool]

    private static let dark: (UInt8, UInt8, UInt8) = (0x1F, 0x4E, 0x79)
    private static let light: (UInt8, UInt8, UInt8) = (0xEE, 0xF1, 0xF5)

    /// The mask of a case: its `mask` (one batch entry), or what its intervals say.
    /// - Returns: nil if the case has neither.
    init?(_ goldenCase: GoldenCase, batch: Int) throws {
        guard let mask = try VisibilityMask(goldenCase) else { return nil }
        guard batch < max(1, mask.batch) else { throw CommandError("batch \(batch), expected 0 ..< \(mask.batch)") }
        let (queries, keys) = (mask.queries, mask.keys)
        guard queries > 0, keys > 0 else {
            throw CommandError("case '\(goldenCase.name)': the mask has no cells to draw")
        }
        var cells: [Bool] = []
        for i in 0..<queries {
            for j in 0..<keys { cells.append(mask.isVisible(batch, i, j)) }
        }
        title = goldenCase.name
        (self.queries, self.keys, isVisible) = (queries, keys, cells)
    }

    /// Pixels of a cell, and of the gap after it.
    private var cell: (size: Int, gap: Int) {
        switch max(queries, keys) {
        case ...32: (12, 1)
        case ...96: (6, 1)
        case ...400: (3, 0)
        default: (1, 0)
        }
    }

    func png() -> [UInt8] {
        let (size, gap) = cell
        let margin = 6
        var picture = PNG(
            width: keys * (size + gap) - gap + 2 * margin, height: queries * (size + gap) - gap + 2 * margin)
        for i in 0..<queries {
            for j in 0..<keys {
                picture.fill(
                    x: margin + j * (size + gap), y: margin + i * (size + gap), width: size, height: size,
                    isVisible[i * keys + j] ? Self.dark : Self.light)
            }
        }
        return picture.bytes
    }

    /// With axes and a title; the visible cells of a row that adjoin are one rectangle.
    func svg() -> [UInt8] {
        let (size, gap) = cell
        let step = size + gap
        let (left, top) = (34, 40)
        let (width, height) = (keys * step - gap, queries * step - gap)
        var text = """
            <svg xmlns="http://www.w3.org/2000/svg" width="\(left + width + 10)" height="\(top + height + 10)" font-family="sans-serif" font-size="11">
            <rect width="100%" height="100%" fill="#ffffff"/>
            <text x="\(left)" y="14" font-weight="bold">\(Page.escaped(title))</text>
            <text x="\(left)" y="32">keys \u{2192}</text>
            <text transform="translate(14,\(top)) rotate(90)">queries \u{2192}</text>
            <rect x="\(left)" y="\(top)" width="\(width)" height="\(height)" fill="#eef1f5"/>\n
            """
        for i in 0..<queries {
            var j = 0
            while j < keys {
                guard isVisible[i * keys + j] else {
                    j += 1
                    continue
                }
                let first = j
                while j < keys && isVisible[i * keys + j] { j += 1 }
                text +=
                    "<rect x=\"\(left + first * step)\" y=\"\(top + i * step)\" width=\"\((j - first) * step - gap)\" height=\"\(size)\" fill=\"#1f4e79\"/>\n"
            }
        }
        for j in 1..<max(1, gap > 0 ? keys : 0) {
            text +=
                "<rect x=\"\(left + j * step - 1)\" y=\"\(top)\" width=\"1\" height=\"\(height)\" fill=\"#ffffff\"/>\n"
        }
        return Array((text + "</svg>\n").utf8)
    }
}
