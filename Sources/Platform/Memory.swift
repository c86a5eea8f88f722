#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif

/// More memory than this process can have.
public struct MemoryError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What takes it: "training".
    public let what: String
    public let bytes: Int
    /// What stands against it, as a clause: "this machine has 23.5 GB".
    public let limit: String

    public var description: String { "\(what) takes \(MemoryLimits.text(bytes)), and \(limit)" }
}

/// What bounds the memory of this process: the machine, its control group, and the limits of the shell.
public enum MemoryLimits {
    /// - Parameter what: what takes the memory, for the message.
    /// - Throws: ``MemoryError`` if so many bytes cannot be had: nine tenths of the machine's memory and of the control group's are counted on, and
    ///   all that the shell's limits leave.
    public static func require(_ bytes: Int, for what: String) throws(MemoryError) {
        for bound in bounds where bytes > bound.bytes {
            throw MemoryError(what: what, bytes: bytes, limit: bound.clause)
        }
    }

    /// What a failed allocation of so many bytes is said to be caused by.
    public static func explanation(of bytes: Int) -> String {
        let least = bounds.min { $0.bytes < $1.bytes }
        return "no memory for \(text(bytes))" + (least.map { ": \($0.cause)" } ?? "")
    }

    /// What the shell's limit on the address space is, as a clause in brackets; empty without one.
    static var shellClause: String {
        bounds.first { $0.cause.contains("ulimit -v") }.map { " (\($0.cause))" } ?? ""
    }

    /// "1.5 GB" and the like: decimal units, as everywhere in this program.
    static func text(_ bytes: Int) -> String {
        var (value, unit) = (Double(bytes), 0)
        let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"]
        while value >= 999.5 && unit < units.count - 1 { (value, unit) = (value / 1000, unit + 1) }
        guard unit > 0 else { return "\(bytes) B" }
        let scale = value < 9.995 ? 100.0 : value < 99.95 ? 10.0 : 1.0
        let rounded = (value * scale).rounded() / scale
        return (scale == 1 ? "\(Int(rounded))" : "\(rounded)") + " \(units[unit])"
    }

    private struct Bound {
        /// That can be taken from now on.
        let bytes: Int
        let clause: String
        /// Why no more could be taken.
        let cause: String
    }

    private static var bounds: [Bound] {
        var bounds: [Bound] = []
        let physical = Int(sysconf(Int32(_SC_PHYS_PAGES))) * Int(sysconf(Int32(_SC_PAGESIZE)))
        if physical > 0 {
            let has = "this machine has \(text(physical))"
            bounds.append(Bound(bytes: physical / 10 * 9, clause: has, cause: has))
        }
        #if canImport(Glibc) || canImport(Musl)
            if let group = controlGroupLimit, group < physical {
                let has = "the control group has \(text(group))"
                bounds.append(Bound(bytes: group / 10 * 9, clause: has, cause: has))
            }
            #if canImport(Musl)
                let shell = [
                    (RLIMIT_AS, "VmSize:", "address space (ulimit -v)"), (RLIMIT_DATA, "VmData:", "data (ulimit -d)"),
                ]
            #else
                let shell = [
                    (__rlimit_resource_t(RLIMIT_AS.rawValue), "VmSize:", "address space (ulimit -v)"),
                    (__rlimit_resource_t(RLIMIT_DATA.rawValue), "VmData:", "data (ulimit -d)"),
                ]
            #endif
            for (resource, field, name) in shell {
                var limit = rlimit()
                guard getrlimit(resource, &limit) == 0, limit.rlim_cur < rlim_t(Int.max) else { continue }
                let left = max(0, Int(limit.rlim_cur) - taken(field))
                bounds.append(
                    Bound(
                        bytes: left,
                        clause: "the limit of \(text(Int(limit.rlim_cur))) on the \(name) leaves \(text(left))",
                        cause: "the limit on the \(name) is \(text(Int(limit.rlim_cur)))"))
            }
        #endif
        return bounds
    }

    #if canImport(Glibc) || canImport(Musl)
        /// A field of /proc/self/status, in bytes; 0 where there is none.
        private static func taken(_ field: String) -> Int {
            for line in lines("/proc/self/status") where line.hasPrefix(field) {
                let number = line.dropFirst(field.count).drop { $0 == " " || $0 == "\t" }.prefix { $0.isNumber }
                return (Int(number) ?? 0) * 1024
            }
            return 0
        }

        /// The least of the limits of the control group that this process is in and of those above it; nil without one.
        private static var controlGroupLimit: Int? {
            var least: Int?
            for line in lines("/proc/self/cgroup") {
                let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
                guard parts.count == 3 else { continue }
                let (root, file): (String, String)
                if parts[1].isEmpty {
                    (root, file) = ("/sys/fs/cgroup", "memory.max")
                } else if parts[1].split(separator: ",").contains("memory") {
                    (root, file) = ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
                } else {
                    continue
                }
                var path = parts[2] == "/" ? "" : String(parts[2])
                while true {
                    if let text = lines("\(root)\(path)/\(file)").first, let bytes = Int(text) {
                        least = min(least ?? bytes, bytes)
                    }
                    guard let slash = path.lastIndex(of: "/") else { break }
                    path = String(path[..<slash])
                }
            }
            return least
        }

        /// Of a small file of the system, in little memory: there may be none.
        private static func lines(_ path: String) -> [Substring] {
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            guard descriptor >= 0 else { return [] }
            defer { close(descriptor) }
            let text = withUnsafeTemporaryAllocation(byteCount: 8192, alignment: 1) { buffer in
                let count = read(descriptor, buffer.baseAddress, buffer.count)
                return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
            }
            return text.split(separator: "\n")
        }
    #endif
}
