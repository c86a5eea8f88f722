import CHDF5
import Cases
import Foundation
import Platform

/// The C library, entered by one thread at a time.
enum HDF5 {
    private static let lock = NSRecursiveLock()

    /// Runs `body` alone. Re-entrant: a handle that closes inside of `body` takes the lock again.
    static func locked<Result: ~Copyable, Failure: Error>(
        _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        lock.lock()
        defer { lock.unlock() }
        _ = isSetUp
        // Errors are returned, not printed. The setting belongs to the thread where the library is built thread-safe.
        H5Eset_auto2(touchstone_h5e_default(), nil, nil)
        return try body()
    }

    /// Every handle is closed by its owner, so nothing is left for the library to do when the process ends; it would
    /// only try again to write a file that could not be written. Plug-ins (filters loaded from a path) stay unloaded.
    private static let isSetUp: Bool = {
        H5dont_atexit()
        H5open()
        H5PLset_loading_state(0)
        return true
    }()

    /// The error stack of the call that has just failed, outermost first.
    static func errorStack() -> [String] {
        var lines: [String] = []
        withUnsafeMutablePointer(to: &lines) { lines in
            _ = H5Ewalk2(
                touchstone_h5e_default(), H5E_WALK_DOWNWARD,
                { _, entry, lines in
                    guard let entry = entry?.pointee, let lines else { return 0 }
                    let function = entry.func_name.map { String(cString: $0) } ?? "?"
                    let text = entry.desc.map { String(cString: $0) } ?? ""
                    let reasons = [HDF5.message(entry.maj_num), HDF5.message(entry.min_num)].filter { !$0.isEmpty }
                    lines.assumingMemoryBound(to: [String].self).pointee
                        .append("\(function)(): \(text) [\(reasons.joined(separator: ": "))]")
                    return 0
                }, lines)
        }
        return lines
    }

    /// Whether an entry of the stack says that something has a version, or a kind, that the library does not know.
    static func saysVersion(_ line: String) -> Bool {
        line.contains("Wrong version number")
            || line.contains("version") && ["bad", "wrong", "unknown"].contains { line.contains($0) }
    }

    /// `errno` of the call of the system that failed first, where the stack tells one.
    static func systemCode(_ stack: [String]) -> Int32? {
        for line in stack.reversed() {
            guard let place = line.range(of: "errno = ") else { continue }
            if let code = Int32(line[place.upperBound...].prefix { $0.isNumber }), code != 0 { return code }
        }
        return nil
    }

    private static func message(_ identifier: hid_t) -> String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
            guard H5Eget_msg(identifier, nil, text.baseAddress, text.count) > 0, let start = text.baseAddress else {
                return ""
            }
            return String(cString: start)
        }
    }
}

/// An owned identifier of the library: closed when it goes out of scope.
struct Handle: ~Copyable, Sendable {
    let identifier: hid_t

    deinit {
        HDF5.locked { _ = H5Idec_ref(identifier) }
    }

    /// Closes now, and says whether the library could: what is still unwritten is written here.
    consuming func close() -> Bool {
        let identifier = identifier
        discard self
        return HDF5.locked { H5Idec_ref(identifier) >= 0 }
    }
}

/// The place in a file that an operation is about: what an error names.
struct Place {
    var file: String
    var caseName: String? = nil
    var dataset: String? = nil
    /// What a failure of the library means here: `damaged` while reading, `writeFailed` while writing.
    var failure: GoldenIOError.Kind = .damaged

    func dataset(_ name: String) -> Place {
        var place = self
        place.dataset = name
        return place
    }

    func goldenCase(_ name: String) -> Place {
        var place = self
        place.caseName = name
        return place
    }

    func error(_ kind: GoldenIOError.Kind, _ message: String, stack: [String] = []) -> GoldenIOError {
        GoldenIOError(kind, file: file, caseName: caseName, dataset: dataset, message, stack: stack)
    }

    func error(_ error: FileError) -> GoldenIOError {
        self.error(.fileSystem, "cannot \(error.operation): \(error.reason)")
    }

    /// The library's failure, with its stack. While writing, where a call of the system failed, that alone in one line: no space left, a file
    /// too large. While reading, where the stack names a version, a newer format. To be called right after the failed call.
    func libraryError(_ message: String) -> GoldenIOError {
        let stack = HDF5.errorStack()
        if failure == .writeFailed, let code = HDF5.systemCode(stack) {
            return error(FileError("write", file, code: code))
        }
        if failure == .damaged, let line = stack.first(where: HDF5.saysVersion) {
            return error(
                .newer,
                "is of a newer format than HDF5 \(GoldenFile.libraryVersion) reads, or damaged where it says which: \(line)"
            )
        }
        return error(failure, message, stack: stack)
    }

    /// Owns an identifier that a call has just returned.
    func own(_ identifier: hid_t, _ message: @autoclosure () -> String) throws(GoldenIOError) -> Handle {
        guard identifier >= 0 else { throw libraryError(message()) }
        return Handle(identifier: identifier)
    }

    /// Checks the status that a call has just returned.
    func check(_ status: Int32, _ message: @autoclosure () -> String) throws(GoldenIOError) {
        guard status >= 0 else { throw libraryError(message()) }
    }
}
