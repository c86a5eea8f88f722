import Cases
import JSON

// Kernels whose tiles or buffers end too early: what lies from some place on is left unwritten, or left out of a sum.

enum TileDeviations {
    /// Where a tile, a block or a buffer may end.
    static let sizes = [16, 32, 64, 128, 256]

    /// How an end goes wrong, with its part of the name and of the sentence.
    enum Fault: String, CaseIterable {
        /// All from index N on, as behind a buffer of N.
        case from
        /// What does not fill a tile of N, where a full tile comes before it.
        case behind
        /// The last tile of N where nothing is left behind it, as by a loop that ends one tile early.
        case last

        func name(_ size: Int) -> String {
            switch self {
            case .from: "from-\(size)"
            case .behind: "behind-tiles-of-\(size)"
            case .last: "last-full-tile-of-\(size)"
            }
        }

        func summary(_ size: Int, _ what: String) -> String {
            switch self {
            case .from: "\(what) from \(size) on"
            case .behind: "\(what) behind the last full tile of \(size)"
            case .last: "the \(what) of the last tile of \(size) where they fill it"
            }
        }

        /// The first and end of what is lost of `count`; empty: nothing.
        func lost(_ count: Int, _ size: Int) -> Range<Int> {
            switch self {
            case .from: min(count, size)..<count
            case .behind: count > size ? count - count % size..<count : count..<count
            case .last: count >= size && count % size == 0 ? count - size..<count : count..<count
            }
        }
    }

    /// The fault and size of each deviation.
    static let all: [(fault: Fault, size: Int)] = Fault.allCases.flatMap { fault in sizes.map { (fault, $0) } }

    /// What is lost of `count` under a choice on an axis; empty where it is none of these.
    static func lost(_ count: Int, _ choice: String?) -> Range<Int> {
        guard let choice, let one = all.first(where: { $0.fault.name($0.size) == choice }) else { return count..<count }
        return one.fault.lost(count, one.size)
    }

    /// Rows and columns of outputs that are left unwritten.
    static let outputs: [Deviation] = lines("rows", 2) + lines("columns", 1)

    /// - Parameter dimension: Counted from the last, 1.
    private static func lines(_ axis: String, _ dimension: Int) -> [Deviation] {
        all.map { fault, size in
            Deviation(
                "tile.\(axis).\(fault.name(size))-unwritten", "leaves \(fault.summary(size, axis)) unwritten (zero)",
                [],
                .answer { _, outputs in
                    var isAny = false
                    let changed = TensorGroup(
                        outputs.tensors.map { named in
                            let shape = named.tensor.shape
                            guard shape.count >= dimension else { return named }
                            let place = shape.count - dimension
                            let lost = fault.lost(shape[place], size)
                            if lost.isEmpty || named.tensor.count == 0 { return named }
                            isAny = true
                            let below = shape[(place + 1)...].reduce(1, *)
                            return NamedTensor(
                                named.name,
                                named.tensor.picking { lost.contains($0 / below % shape[place]) ? nil : $0 })
                        })
                    return isAny ? changed : nil
                })
        }
    }

    /// Terms that are left out of a sum: `prefix` names the axis, `what` the terms.
    static func terms(_ prefix: String, _ what: String, _ clauses: [String]) -> [Deviation] {
        all.map { fault, size in
            Deviation("\(prefix).\(fault.name(size))", "leaves out \(fault.summary(size, what))", clauses)
        }
    }

    /// Some inputs read as zero along a dimension, counted from the last, 1.
    static func inputs(
        _ prefix: String, _ what: String, _ clauses: [String], _ places: [(input: String, dimension: Int)]
    ) -> [Deviation] {
        all.map { fault, size in
            Deviation(
                "\(prefix).\(fault.name(size))", "leaves out \(fault.summary(size, what))", clauses,
                .question { goldenCase in
                    var changed = goldenCase
                    for (name, dimension) in places {
                        guard let tensor = goldenCase.inputs[name], tensor.shape.count >= dimension else { return nil }
                        let place = tensor.shape.count - dimension
                        let lost = fault.lost(tensor.shape[place], size)
                        let below = tensor.shape[(place + 1)...].reduce(1, *)
                        changed.inputs = changed.inputs.replacing(
                            name, with: tensor.picking { lost.contains($0 / below % tensor.shape[place]) ? nil : $0 })
                    }
                    return changed == goldenCase ? nil : changed
                })
        }
    }

    /// Keys, or queries, that take no part in attention: their intervals are made empty.
    static func attention(_ what: String) -> [Deviation] {
        all.map { fault, size in
            Deviation(
                "attention.\(what).\(fault.name(size))", "leaves out \(fault.summary(size, what))", ["Z1", "Z2"],
                .question { goldenCase in
                    guard let shape = goldenCase.inputs[what == "keys" ? "k" : "q"]?.shape, shape.count == 4,
                        let starts = try? goldenCase.inputs["visibility_start"]?.integers(Int32.self),
                        let limits = try? goldenCase.inputs["visibility_limit"]?.integers(Int32.self),
                        let tokens = goldenCase.inputs["visibility_start"]?.shape, let width = tokens.last, width > 0
                    else { return nil }
                    let lost = fault.lost(shape[2], size)
                    if lost.isEmpty { return nil }
                    var (start, limit) = (starts, limits)
                    if (goldenCase.recipe["orientation"] == "by-query") == (what == "keys") {
                        // The lost are the last: intervals end before them.
                        guard lost.upperBound == shape[2] else { return nil }
                        var offset = 0
                        if what != "keys", case .integer(let given)? = goldenCase.recipe["query_offset"] {
                            offset = Int(given)
                        }
                        for index in start.indices {
                            limit[index] = min(limit[index], Int32(offset + lost.lowerBound))
                            start[index] = min(start[index], limit[index])
                        }
                    } else {
                        for index in start.indices where lost.contains(index % width) { limit[index] = start[index] }
                    }
                    var changed = goldenCase
                    changed.inputs = goldenCase.inputs
                        .replacing("visibility_start", with: Tensor(start, shape: tokens))
                        .replacing("visibility_limit", with: Tensor(limit, shape: tokens))
                    return changed == goldenCase ? nil : changed
                })
        }
    }
}
