import JSON

/// A document as a tree of texts in depth-first order; a flat one is a tree of one node (T7).
struct Document {
    /// Of each node its parent's index, -1 for the root.
    var parents: [Int32] = []
    /// The tokens of each node: bytes of UTF-8.
    var texts: [[UInt8]] = []

    var count: Int { texts.reduce(0) { $0 + $1.count } }
    var isFlat: Bool { texts.count == 1 }

    /// One line of a JSON Lines file: `{"text": ...}`, `{"text": ..., "children": [...]}` to any depth that the parser reads, or `{"messages": [{"role": ...,
    /// "content": ...}, ...]}`, a chain of nodes `role: content` and a line feed.
    ///
    /// - Throws: ``CorpusError`` for anything else, an empty text included.
    init(line: [UInt8], path: String, number: Int) throws(CorpusError) {
        func error(_ message: String) -> CorpusError { CorpusError(path: path, line: number, message) }
        let value: JSONValue
        do { value = try JSONValue(utf8: line) } catch let problem { throw error("not JSON: \(problem)") }
        guard case .object(let members) = value else {
            throw error("expected an object with \"text\" or \"messages\"")
        }
        if let messages = members["messages"] {
            try Self.requireKeys(members, ["messages"], error)
            guard case .array(let list) = messages, !list.isEmpty else {
                throw error("\"messages\" is not an array with at least one message")
            }
            for (index, message) in list.enumerated() {
                guard case .object(let parts) = message, case .string(let role)? = parts["role"],
                    case .string(let content)? = parts["content"]
                else { throw error("message \(index) is not an object with the strings \"role\" and \"content\"") }
                try Self.requireKeys(parts, ["role", "content"], error)
                parents.append(Int32(index) - 1)
                texts.append(Array("\(role): \(content)\n".utf8))
            }
            return
        }
        // Depth first, the first child next; no recursion.
        var pending: [(node: JSONValue, parent: Int32)] = [(value, -1)]
        while let (node, parent) = pending.popLast() {
            guard case .object(let parts) = node, case .string(let text)? = parts["text"] else {
                throw error("node \(texts.count) is not an object with the string \"text\"")
            }
            try Self.requireKeys(parts, ["text", "children"], error)
            guard !text.isEmpty else { throw error("node \(texts.count) has an empty \"text\"") }
            let index = Int32(texts.count)
            parents.append(parent)
            texts.append(Array(text.utf8))
            guard let children = parts["children"] else { continue }
            guard case .array(let list) = children else { throw error("\"children\" of node \(index) is not an array") }
            for child in list.reversed() { pending.append((child, index)) }
        }
    }

    /// Where the string begins that is the `text` of a line with one node; nil for a chat.
    ///
    /// - Precondition: `line` is such a document.
    static func text(in line: [UInt8]) -> Int? {
        let quote = UInt8(ascii: "\"")
        var index = 0
        var isValue = false
        while let start = line[index...].firstIndex(of: quote) {
            if isValue { return start + 1 }
            var end = start + 1
            while end < line.count, line[end] != quote { end += line[end] == UInt8(ascii: "\\") ? 2 : 1 }
            guard end < line.count, case .string(let key)? = try? JSONValue(utf8: Array(line[start...end])),
                key == "text" || key == "children"
            else { return nil }
            isValue = key == "text"
            index = end + 1
        }
        return nil
    }

    private static func requireKeys(
        _ members: [String: JSONValue], _ known: [String], _ error: (String) -> CorpusError
    ) throws(CorpusError) {
        for key in members.keys.sorted() where !known.contains(key) {
            throw error("unknown key \"\(key)\"; expected \(known.map { "\"\($0)\"" }.joined(separator: " and "))")
        }
    }
}
