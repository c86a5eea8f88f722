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

    /// Opens the library at a path.
    ///
    /// - Throws: ``DynamicLibraryError`` with the system's reason.
    public init(path: String) throws(DynamicLibraryError) {
        // A name without a slash would be looked for elsewhere.
        guard let handle = dlopen(path.contains("/") ? path : "./" + path, RTLD_NOW | RTLD_LOCAL) else {
            throw DynamicLibraryError(description: dlerror().map { String(cString: $0) } ?? "\(path): not opened")
        }
        self.handle = handle
    }

    /// The function of that name as a C function pointer of the type that the caller knows it to have; nil if there is none.
    ///
    /// - Precondition: `Function` is a `@convention(c)` function type.
    public func function<Function>(_ name: String, as type: Function.Type) -> Function? {
        precondition(MemoryLayout<Function>.size == MemoryLayout<UnsafeMutableRawPointer>.size, "not a C function type")
        return dlsym(handle, name).map { unsafeBitCast($0, to: type) }
    }
}

/// Why a shared library could not be opened: the system's words.
public struct DynamicLibraryError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}
