#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// A shared library opened while the program runs; it stays open as long as the process.
public struct DynamicLibrary: @unchecked Sendable {
    private let handle: UnsafeMutableRawPointer

    /// Opens the first of the names that the system finds; nil if it finds none.
    public init?(anyOf names: [String]) {
        for name in names {
            if let handle = dlopen(name, RTLD_NOW | RTLD_LOCAL) {
                self.handle = handle
                return
            }
        }
        return nil
    }

    /// The function of that name as a C function pointer of the type that the caller knows it to have; nil if there is none.
    ///
    /// - Precondition: `Function` is a `@convention(c)` function type.
    public func function<Function>(_ name: String, as type: Function.Type) -> Function? {
        precondition(MemoryLayout<Function>.size == MemoryLayout<UnsafeMutableRawPointer>.size, "not a C function type")
        return dlsym(handle, name).map { unsafeBitCast($0, to: type) }
    }
}
