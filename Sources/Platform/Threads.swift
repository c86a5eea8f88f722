#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A thread of the operating system that runs one closure.
public final class PlatformThread: @unchecked Sendable {
    #if canImport(Darwin)
        private var handle: pthread_t?
    #else
        private var handle = pthread_t()
    #endif

    private final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// - Throws: ``SystemError`` if the system starts no further thread: too many, or no room for a stack.
    public init(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
        let argument = Unmanaged.passRetained(Body(body)).toOpaque()
        #if canImport(Darwin)
            let status = pthread_create(
                &handle, nil,
                {
                    Unmanaged<Body>.fromOpaque($0).takeRetainedValue().run(); return nil
                }, argument)
        #else
            let status = pthread_create(
                &handle, nil,
                {
                    Unmanaged<Body>.fromOpaque($0!).takeRetainedValue().run()
                    return nil
                }, argument)
        #endif
        guard status == 0 else {
            Unmanaged<Body>.fromOpaque(argument).release()
            throw SystemError("cannot start a thread\(MemoryLimits.shellClause)", status)
        }
    }

    /// Waits for its end. Once only.
    public func join() {
        #if canImport(Darwin)
            pthread_join(handle!, nil)
        #else
            pthread_join(handle, nil)
        #endif
    }

    /// Lets other threads run.
    public static func yield() { sched_yield() }
}

/// Where threads sleep until something has changed.
public final class ThreadGate: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>

    public init() {
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Sleeps until `isDone`, which is asked again after every ``open()``.
    public func wait(until isDone: () -> Bool) {
        pthread_mutex_lock(mutex)
        while !isDone() { pthread_cond_wait(condition, mutex) }
        pthread_mutex_unlock(mutex)
    }

    /// Wakes all who wait. What they ask about has changed before.
    public func open() {
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }
}
