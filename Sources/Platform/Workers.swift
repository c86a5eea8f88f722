#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif
import Dispatch

/// Threads for long work that takes its next piece from a shared counter.
public enum Workers {
    /// The processors that are switched on, at least 1.
    public static var processorCount: Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

    /// Runs `helper` on `count` other threads and `caller` on this one; returns when all have.
    ///
    /// The system may start fewer threads at once than `count` and the rest when those end, so a helper must not wait for another.
    public static func run<Result, Failure: Error>(
        helpers count: Int, _ helper: @escaping @Sendable () -> Void, caller: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let group = DispatchGroup()
        for _ in 0..<max(0, count) { DispatchQueue.global().async(group: group, execute: helper) }
        defer { group.wait() }
        return try caller()
    }
}
