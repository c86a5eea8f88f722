#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif
import Synchronization

/// Process groups, which are what a terminal or a timeout ends as one.
public enum ProcessGroups {
    private static let running = Mutex<Set<Int32>>([])

    /// Notes a group that must not outlive this process, until ``remove(_:)``.
    public static func add(_ group: Int32) { running.withLock { _ = $0.insert(group) } }
    public static func remove(_ group: Int32) { running.withLock { _ = $0.remove(group) } }

    /// Kills the groups that are noted: for a process that is about to end.
    static func killRunning() {
        // Nobody waits for a lock here whose holder may have failed.
        for group in running.withLockIfAvailable({ $0 }) ?? [] { kill(group) }
    }

    /// Sends SIGKILL to every process of the group. A group that is gone already is no error.
    public static func kill(_ group: Int32) {
        // 0, 1 and negative numbers mean other things to the system.
        guard group > 1 else { return }
        #if canImport(Darwin)
            _ = Darwin.kill(-group, SIGKILL)
        #elseif canImport(Musl)
            _ = Musl.kill(-group, SIGKILL)
        #else
            _ = Glibc.kill(-group, SIGKILL)
        #endif
    }
}

/// A value that several tasks share.
public final class Synchronized<Value: Sendable>: Sendable {
    private let value: Mutex<Value>

    public init(_ value: Value) { self.value = Mutex(value) }

    public var get: Value { value.withLock { $0 } }
    public func set(_ new: Value) { value.withLock { $0 = new } }
    public func change(_ body: (inout Value) -> Void) { value.withLock { body(&$0) } }
}
