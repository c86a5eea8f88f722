import Cases
import Goldens
import Platform

/// The reference's answers to cases, on all threads.
enum CaseWork {
    /// Cases and bytes of inputs that are worked on at once: what is answered and not yet written lies in memory.
    private static let most = (cases: 32, bytes: 64 << 20)

    /// Asks for cases until there are enough to be worked on at once; none at the end.
    static func batch(_ next: () throws -> GoldenCase?) rethrows -> [GoldenCase] {
        var cases: [GoldenCase] = []
        var bytes = 0
        while cases.count < most.cases, bytes < most.bytes, let one = try next() {
            cases.append(one)
            bytes += one.inputs.tensors.reduce(0) { $0 + $1.tensor.bytes.count }
        }
        return cases
    }

    /// The answers in the order of the cases. The bar shows how far the first case has come that is not answered yet: its answer is a number of passes
    /// over rows or elements, one after the other.
    ///
    /// - Parameter done: cases that were answered before.
    static func answers(to cases: [GoldenCase], done: Int, _ bar: ProgressBar) -> [Result<GoldenCase, any Error>] {
        let isAnswered = Synchronized([Bool](repeating: false, count: cases.count))
        return Workers.map(cases.count) { index in
            let progress = WorkProgress { part, fraction in
                let state = isAnswered.get
                guard !state[..<index].contains(false) else { return }
                bar.update(
                    UInt64(done + state.count { $0 }),
                    note: "\(cases[index].name): pass \(part), \(Int(fraction * 100)) %")
            }
            defer { isAnswered.change { $0[index] = true } }
            return WorkProgress.$current.withValue(progress) {
                Result {
                    try Interruption.check()
                    return try OperationCatalog.evaluate(cases[index])
                }
            }
        }
    }
}
