#if canImport(Darwin)
    import Darwin
#elseif canImport(Musl)
    import Musl
#else
    import Glibc
#endif
import Dispatch

/// What the program needs to know of the terminal and the machine it runs on.
public enum Terminal {
    /// Whether standard error is a terminal: progress bars go there.
    public static var standardErrorIsTerminal: Bool { isatty(STDERR_FILENO) == 1 }
    /// Whether standard output is a terminal: colour is allowed there.
    public static var standardOutputIsTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

    /// Columns of the terminal on standard error, 80 where that is unknown.
    public static var columns: Int {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// Writes to standard error at once, unbuffered, as ``PlainText/shown(_:)`` gives it: names and texts may come from anywhere.
    public static func writeError(_ text: String) { draw(PlainText.shown(text)) }

    /// Writes to standard error as it is, commands for the terminal included: for text of the program's own.
    public static func draw(_ text: String) {
        var text = text
        text.withUTF8 { buffer in
            var offset = 0
            while offset < buffer.count {
                let written = write(STDERR_FILENO, buffer.baseAddress! + offset, buffer.count - offset)
                if written <= 0 { return }
                offset += written
            }
        }
    }
}

/// Seconds on a clock that never goes back. For progress only: no clock has a part in anything that produces bits.
public func monotonicSeconds() -> Double { Double(DispatchTime.now().uptimeNanoseconds) * 1e-9 }

/// The processor, as the operating system describes it.
public enum Machine {
    /// For example "AMD EPYC 9R14"; "unknown" where the system does not say.
    public static var processorName: String {
        #if canImport(Darwin)
            return systemString("machdep.cpu.brand_string") ?? "unknown"
        #else
            return processorField("model name") ?? "unknown"
        #endif
    }

    /// Instruction-set extensions that matter to kernels and are present, in a fixed order.
    public static var features: [String] {
        let known = ["fma", "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16", "sve"]
        #if canImport(Darwin)
            let map = ["asimd": "hw.optional.neon", "bf16": "hw.optional.arm.FEAT_BF16", "avx2": "hw.optional.avx2_0"]
            return known.filter { map[$0].map { systemFlag($0) } ?? false }
        #else
            let present = Set((processorField("flags") ?? processorField("Features") ?? "").split(separator: " "))
            return known.filter { present.contains(Substring($0)) }
        #endif
    }

    /// "x86_64", "arm64" ...
    public static var architecture: String {
        #if arch(x86_64)
            return "x86_64"
        #elseif arch(arm64)
            return "arm64"
        #else
            return "other"
        #endif
    }

    #if canImport(Darwin)
        private static func systemString(_ name: String) -> String? {
            var size = 0
            guard sysctlbyname(name, nil, &size, nil, 0) == 0, size > 0 else { return nil }
            var buffer = [UInt8](repeating: 0, count: size)
            guard sysctlbyname(name, &buffer, &size, nil, 0) == 0 else { return nil }
            return String(decoding: buffer.prefix { $0 != 0 }, as: UTF8.self)
        }

        private static func systemFlag(_ name: String) -> Bool {
            var value: Int32 = 0
            var size = MemoryLayout<Int32>.size
            return sysctlbyname(name, &value, &size, nil, 0) == 0 && value != 0
        }
    #else
        private static func processorField(_ name: String) -> String? {
            guard let file = fopen("/proc/cpuinfo", "r") else { return nil }
            defer { fclose(file) }
            var line = [CChar](repeating: 0, count: 8192)
            while fgets(&line, Int32(line.count), file) != nil {
                let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
                let parts = text.split(separator: ":", maxSplits: 1)
                guard parts.count == 2, parts[0].allSatisfy({ $0 != "\n" }) else { continue }
                if trimmed(parts[0]) == name { return trimmed(parts[1]) }
            }
            return nil
        }

        private static func trimmed(_ text: Substring) -> String {
            String(text.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
        }
    #endif
}
