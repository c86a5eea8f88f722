import Platform
import Synchronization

/// Long work over the cases 0 ..< ``total``: cut into blocks, one shard of several, on several threads, with progress, and
/// resumable.
///
/// Which thread takes which block changes nothing in the outcome: blocks are merged in ascending order, so the mismatches that are
/// kept are the first ones of the shard for every number of threads and however often the run was interrupted.
///
///     let run = ExhaustiveRun(work: "math exp", total: 1 << 32, shard: try Shard("1/8"), resumeFile: path)
///     let outcome = try run.run(progress: { bar.update($0.done); try Interruption.check() }) { cases, mismatches in
///         for index in cases where ... { mismatches.record { Mismatch(index: index, ...) } }
///     }
public struct ExhaustiveRun: Sendable {
    /// What is being done, in one line. A resume file of other work is refused.
    public var work: String
    /// The number of cases of all shards together.
    public var total: UInt64
    /// The number of cases that a thread takes at a time.
    public var blockSize: UInt64
    public var shard: Shard
    /// The number of threads, the caller's included.
    public var threads: Int
    /// Where the state is kept; nil keeps none. A file that does not exist yet starts the work; a finished one repeats its outcome.
    public var resumeFile: String?
    /// Seconds between two writes of the resume file. It is also written at the end and when the work is cut short.
    public var saveInterval: Double
    /// How many mismatches are kept; all are counted.
    public var keptMismatches: Int

    /// - Precondition: `blockSize` and `threads` are at least 1, and `work` is one line.
    public init(
        work: String, total: UInt64, blockSize: UInt64 = 1 << 20, shard: Shard = .whole,
        threads: Int = Workers.processorCount,
        resumeFile: String? = nil, saveInterval: Double = 10, keptMismatches: Int = 16
    ) {
        precondition(blockSize > 0 && threads > 0 && !work.contains("\n"))
        self.work = work
        self.total = total
        self.blockSize = blockSize
        self.shard = shard
        self.threads = threads
        self.resumeFile = resumeFile
        self.saveInterval = saveInterval
        self.keptMismatches = keptMismatches
    }

    /// Judges every case of the shard.
    ///
    /// - Parameters:
    ///   - progress: called on the calling thread, after each piece of a block that this thread has done and at the end. What it throws ends
    ///     the run early, after the state has been saved: the way to stop on Ctrl-C.
    ///   - judge: judges the cases of a range of indices and records what does not match. Called on several threads at once.
    /// - Throws: ``ExhaustiveRunError`` for a resume file that is not this run's, `FileError` where the file cannot be read or
    ///   written, and what `progress` throws.
    public func run(
        progress: (ExhaustiveProgress) throws -> Void = { _ in },
        judge: @escaping @Sendable (Range<UInt64>, inout Mismatches) -> Void
    ) throws -> ExhaustiveOutcome {
        let blocks = shard.range(of: (total + blockSize - 1) / blockSize)
        let restored = try restore(blocks: blocks)
        let shared = Shared(next: blocks.lowerBound + restored.blocksDone, merged: restored.mismatches)
        let start = monotonicSeconds()

        /// Judges the next block, `pause` between two pieces of it; false when there is none left or the run is to stop, which leaves
        /// the block undone.
        @Sendable func judgeNextBlock(pause: () throws -> Void) rethrows -> Bool {
            guard !shared.isStopping.load(ordering: .relaxed) else { return false }
            let block = shared.queue.wrappingAdd(1, ordering: .relaxed).oldValue
            guard block < blocks.upperBound else { return false }
            var mismatches = Mismatches(limit: keptMismatches)
            let all = cases(ofBlocks: block..<block + 1)
            var first = all.lowerBound
            while first < all.upperBound {
                let end = min(first + Self.piece, all.upperBound)
                judge(first..<end, &mismatches)
                first = end
                try pause()
                guard !shared.isStopping.load(ordering: .relaxed) else { return false }
            }
            shared.ledger.withLock { $0.add(mismatches, block: block) }
            return true
        }
        func state() -> State {
            let (next, mismatches) = shared.ledger.withLock { ($0.next, $0.merged) }
            return State(
                blocksDone: next - blocks.lowerBound, seconds: restored.seconds + monotonicSeconds() - start,
                mismatches: mismatches)
        }
        func report(_ state: State) throws {
            let done = cases(ofBlocks: blocks.lowerBound..<blocks.lowerBound + state.blocksDone)
            let all = cases(ofBlocks: blocks)
            try progress(
                ExhaustiveProgress(
                    done: UInt64(done.count), total: UInt64(all.count), mismatches: state.mismatches.count,
                    seconds: state.seconds))
        }

        let failure: (any Error)? = Workers.run(helpers: threads - 1, { while judgeNextBlock(pause: {}) {} }) {
            var lastSaved = start
            do {
                while try judgeNextBlock(pause: { try report(state()) }) {
                    try report(state())
                    if monotonicSeconds() - lastSaved >= saveInterval {
                        try save(state())
                        lastSaved = monotonicSeconds()
                    }
                }
                return nil
            } catch {
                shared.isStopping.store(true, ordering: .relaxed)
                return error
            }
        }
        let final = state()
        try save(final)
        if let failure { throw failure }
        try report(final)
        return ExhaustiveOutcome(
            cases: UInt64(cases(ofBlocks: blocks).count), mismatches: final.mismatches.count,
            firstMismatches: final.mismatches.first, seconds: final.seconds)
    }

    /// Cases between two looks at whether the run is to stop.
    private static let piece: UInt64 = 1 << 14

    private func cases(ofBlocks blocks: Range<UInt64>) -> Range<UInt64> {
        min(blocks.lowerBound * blockSize, total)..<min(blocks.upperBound * blockSize, total)
    }

    // MARK: State

    /// What a resume file holds: the blocks done are the first ones of the shard, without a gap.
    struct State: Sendable {
        var blocksDone: UInt64 = 0
        var seconds = 0.0
        var mismatches: Mismatches
    }

    /// The lines that must be equal for a resume file to be this run's.
    private var identity: [(name: String, value: String)] {
        [
            ("work", work), ("total", "\(total)"), ("block", "\(blockSize)"), ("shard", shard.description),
            ("kept", "\(keptMismatches)"),
        ]
    }

    private static let title = "touchstone exhaustive run, format 1"

    private func save(_ state: State) throws(FileError) {
        guard let resumeFile else { return }
        var lines = [Self.title]
        lines += identity.map { "\($0.name)\t\($0.value)" }
        lines += ["done\t\(state.blocksDone)", "seconds\t\(state.seconds)", "mismatches\t\(state.mismatches.count)"]
        lines += state.mismatches.first.map { "mismatch\t\($0.index)\t\($0.inputs)\t\($0.expected)\t\($0.got)" }
        lines.append("end")
        try Files.replace(resumeFile, with: Array((lines.joined(separator: "\n") + "\n").utf8))
    }

    private func restore(blocks: Range<UInt64>) throws -> State {
        let fresh = State(mismatches: Mismatches(limit: keptMismatches))
        guard let resumeFile else { return fresh }
        let bytes: [UInt8]
        do {
            bytes = try Files.bytes(of: resumeFile)
        } catch {
            if error.isNoSuchFile { return fresh }
            throw error
        }
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        func malformed(_ line: Int, _ expected: String) -> ExhaustiveRunError {
            .malformedState(file: resumeFile, line: line + 1, expected: expected)
        }
        func value(_ line: Int, _ name: String) throws -> Substring {
            guard line < lines.count, lines[line].hasPrefix(name + "\t") else { throw malformed(line, name) }
            return lines[line].dropFirst(name.utf8.count + 1)
        }
        guard lines.first.map(String.init) == Self.title else { throw malformed(0, Self.title) }
        var line = 1
        for (name, expected) in identity {
            let found = try value(line, name)
            guard found == expected else {
                throw ExhaustiveRunError.otherWork(
                    file: resumeFile, field: name, found: String(found), expected: expected)
            }
            line += 1
        }
        guard let done = UInt64(try value(line, "done")), done <= UInt64(blocks.count) else {
            throw malformed(line, "done, a number of blocks up to \(blocks.count)")
        }
        guard let seconds = Double(try value(line + 1, "seconds")), seconds >= 0 else {
            throw malformed(line + 1, "seconds, a number")
        }
        guard let count = UInt64(try value(line + 2, "mismatches")) else {
            throw malformed(line + 2, "mismatches, a number")
        }
        line += 3
        var first: [Mismatch] = []
        while line < lines.count, lines[line].hasPrefix("mismatch\t") {
            let fields = lines[line].split(separator: "\t", omittingEmptySubsequences: false)
            guard fields.count == 5, let index = UInt64(fields[1]) else {
                throw malformed(line, "mismatch, an index, inputs, expected and got")
            }
            first.append(
                Mismatch(
                    index: index, inputs: String(fields[2]), expected: String(fields[3]), got: String(fields[4])))
            line += 1
        }
        guard first.count == min(Int(clamping: count), keptMismatches) else {
            throw malformed(line, "\(min(Int(clamping: count), keptMismatches)) mismatch lines, found \(first.count)")
        }
        guard line < lines.count, lines[line] == "end" else { throw malformed(line, "end") }
        return State(
            blocksDone: done, seconds: seconds,
            mismatches: Mismatches(limit: keptMismatches, first: first, count: count))
    }
}

extension FileError {
    /// ENOENT, 2 on every system that this is built for.
    fileprivate var isNoSuchFile: Bool { code == 2 }
}

/// What the threads of one run share.
private final class Shared: Sendable {
    let queue: Atomic<UInt64>
    let isStopping = Atomic<Bool>(false)
    let ledger: Mutex<Ledger>

    init(next: UInt64, merged: Mismatches) {
        queue = Atomic(next)
        ledger = Mutex(Ledger(next: next, merged: merged))
    }
}

/// The merged outcome of all blocks below ``next``, and the blocks that were done before their turn.
private struct Ledger: Sendable {
    var next: UInt64
    var merged: Mismatches
    /// At most one for each thread.
    var early: [(block: UInt64, mismatches: Mismatches)] = []

    init(next: UInt64, merged: Mismatches) {
        self.next = next
        self.merged = merged
    }

    mutating func add(_ mismatches: Mismatches, block: UInt64) {
        early.append((block, mismatches))
        while let place = early.firstIndex(where: { $0.block == next }) {
            merged.append(early.remove(at: place).mismatches)
            next += 1
        }
    }
}

/// Shard `index` of `count`: the blocks are dealt in contiguous ranges.
public struct Shard: Sendable, Hashable, CustomStringConvertible {
    /// 1 ... count.
    public let index: Int
    public let count: Int

    /// All of the work.
    public static let whole = Shard(uncheckedIndex: 1, count: 1)

    /// - Throws: ``ExhaustiveRunError/invalidShard(_:)`` unless 1 <= index <= count <= 1,000,000.
    public init(index: Int, count: Int) throws(ExhaustiveRunError) {
        guard 1 <= index, index <= count, count <= 1_000_000 else { throw .invalidShard("\(index)/\(count)") }
        self.init(uncheckedIndex: index, count: count)
    }

    /// The shard written as `1/8`.
    public init(_ text: String) throws(ExhaustiveRunError) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let index = Int(parts[0]), let count = Int(parts[1]) else { throw .invalidShard(text) }
        guard 1 <= index, index <= count, count <= 1_000_000 else { throw .invalidShard(text) }
        self.init(uncheckedIndex: index, count: count)
    }

    private init(uncheckedIndex index: Int, count: Int) {
        self.index = index
        self.count = count
    }

    public var description: String { "\(index)/\(count)" }

    /// [(index - 1) * blocks / count, index * blocks / count), rounded down.
    func range(of blocks: UInt64) -> Range<UInt64> {
        func bound(_ shard: Int) -> UInt64 {
            let (high, low) = blocks.multipliedFullWidth(by: UInt64(shard))
            return UInt64(count).dividingFullWidth((high, low)).quotient
        }
        return bound(index - 1)..<bound(index)
    }
}

/// How far a run has come. `done` and `total` are cases of the shard; `seconds` includes earlier parts of a resumed run.
public struct ExhaustiveProgress: Sendable, Hashable {
    public let done: UInt64
    public let total: UInt64
    public let mismatches: UInt64
    public let seconds: Double
}

/// The outcome of a finished shard. `seconds` is wall time of all parts of a resumed run together.
public struct ExhaustiveOutcome: Sendable, Hashable {
    public let cases: UInt64
    public let mismatches: UInt64
    /// The first ones, in order of the cases.
    public let firstMismatches: [Mismatch]
    public let seconds: Double

    public init(cases: UInt64, mismatches: UInt64, firstMismatches: [Mismatch], seconds: Double) {
        self.cases = cases
        self.mismatches = mismatches
        self.firstMismatches = firstMismatches
        self.seconds = seconds
    }
}

/// One case in which two derivations differ, in words: bits in hexadecimal and what else helps. No text holds a tab or a newline.
public struct Mismatch: Sendable, Hashable, CustomStringConvertible {
    public let index: UInt64
    public let inputs: String
    public let expected: String
    public let got: String

    public init(index: UInt64, inputs: String, expected: String, got: String) {
        func oneField(_ text: String) -> String {
            text.contains { $0 == "\t" || $0.isNewline }
                ? String(text.map { $0 == "\t" || $0.isNewline ? " " : $0 }) : text
        }
        self.index = index
        self.inputs = oneField(inputs)
        self.expected = oneField(expected)
        self.got = oneField(got)
    }

    public var description: String { "\(inputs): expected \(expected), got \(got)" }
}

/// The mismatches of a range of cases: all are counted, the first few kept.
public struct Mismatches: Sendable {
    public private(set) var count: UInt64
    public private(set) var first: [Mismatch]
    private let limit: Int

    public init(limit: Int) {
        self.init(limit: limit, first: [], count: 0)
    }

    init(limit: Int, first: [Mismatch], count: UInt64) {
        self.limit = limit
        self.first = first
        self.count = count
    }

    /// Counts one, and asks for its description only if it will be kept. Cases are recorded in ascending order.
    public mutating func record(_ describe: () -> Mismatch) {
        count += 1
        if first.count < limit { first.append(describe()) }
    }

    /// Adds those of the cases that follow.
    mutating func append(_ other: Mismatches) {
        count += other.count
        first += other.first.prefix(max(0, limit - first.count))
    }
}

/// Why a run cannot start.
public enum ExhaustiveRunError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A text that does not name a shard.
    case invalidShard(String)
    /// The resume file belongs to other work.
    case otherWork(file: String, field: String, found: String, expected: String)
    /// The resume file is not one, or is damaged.
    case malformedState(file: String, line: Int, expected: String)

    public var description: String {
        switch self {
        case .invalidShard(let text):
            "no such shard: \(text); expected I/N with 1 <= I <= N, for example 1/8"
        case .otherWork(let file, let field, let found, let expected):
            "\(file) is the resume file of other work: \(field) is \(found), this run's is \(expected)"
        case .malformedState(let file, let line, let expected):
            "\(file) is not a resume file or is damaged: line \(line): expected \(expected)"
        }
    }
}
