import Engine
import Foundation
import Platform

/// Ranks as threads of one process, with mailboxes between them: what trainers of several processes do, wherever the tests run.
final class ThreadCommunicator: Communicator {
    let rank: Int
    private let exchangeOffice: PostOffice
    var count: Int { exchangeOffice.count }

    init(rank: Int, _ office: PostOffice) {
        self.rank = rank
        exchangeOffice = office
    }

    func exchange(
        _ source: UnsafeRawBufferPointer, _ parts: [Range<Int>], _ target: UnsafeMutableRawBufferPointer,
        _ places: [Range<Int>]
    ) throws -> Int {
        var sent = 0
        for to in 0..<count where to != rank {
            exchangeOffice.post(Array(source[parts[to]]), from: rank, to: to)
            sent += parts[to].count
        }
        let own = Array(source[parts[rank]])
        for from in 0..<count {
            let message = from == rank ? own : try exchangeOffice.take(from: from, to: rank)
            guard message.count == places[from].count else {
                throw CommunicationError(
                    rank: rank, "\(message.count) bytes from rank \(from), expected \(places[from])")
            }
            UnsafeMutableRawBufferPointer(rebasing: target[places[from]]).copyBytes(from: message)
        }
        return sent
    }

    func send(_ bytes: UnsafeRawBufferPointer, to rank: Int) throws {
        exchangeOffice.post(Array(bytes), from: self.rank, to: rank)
    }

    func receive(_ bytes: UnsafeMutableRawBufferPointer, from rank: Int) throws {
        bytes.copyBytes(from: try exchangeOffice.take(from: rank, to: self.rank))
    }

    /// Runs `body` as every rank at once; what each returned or threw, in rank order.
    static func run<Value: Sendable>(
        _ ranks: Int, _ body: @escaping @Sendable (ThreadCommunicator) throws -> Value
    ) -> [Result<Value, any Error>] {
        let office = PostOffice(ranks)
        let results = Results<Value>(ranks)
        // A thread that is not started leaves its place in the results empty, which traps.
        let threads = (0..<ranks).compactMap { rank in
            try? PlatformThread {
                let communicator = ThreadCommunicator(rank: rank, office)
                do { results.set(rank, .success(try body(communicator))) } catch {
                    results.set(rank, .failure(error))
                }
                office.leave(rank)
            }
        }
        for thread in threads { thread.join() }
        return results.all
    }

    private final class Results<Value: Sendable>: @unchecked Sendable {
        private let lock = NSLock()
        private var values: [Result<Value, any Error>?]
        init(_ count: Int) { values = Array(repeating: nil, count: count) }
        func set(_ rank: Int, _ value: Result<Value, any Error>) { lock.withLock { values[rank] = value } }
        var all: [Result<Value, any Error>] { values.map { $0! } }
    }
}

/// Messages on their way. A rank that has left sends no more: whoever waits for it gets an error, not silence.
final class PostOffice: @unchecked Sendable {
    let count: Int
    private let condition = NSCondition()
    private var messages: [[[UInt8]]]
    private var hasLeft: [Bool]

    init(_ count: Int) {
        self.count = count
        messages = Array(repeating: [], count: count * count)
        hasLeft = Array(repeating: false, count: count)
    }

    func post(_ message: [UInt8], from: Int, to: Int) {
        condition.lock()
        messages[from * count + to].append(message)
        condition.broadcast()
        condition.unlock()
    }

    func take(from: Int, to: Int) throws -> [UInt8] {
        condition.lock()
        defer { condition.unlock() }
        while messages[from * count + to].isEmpty {
            if hasLeft[from] { throw CommunicationError(rank: to, "rank \(from) has left") }
            condition.wait()
        }
        return messages[from * count + to].removeFirst()
    }

    func leave(_ rank: Int) {
        condition.lock()
        hasLeft[rank] = true
        condition.broadcast()
        condition.unlock()
    }
}
