import Engine

#if MPI
    import CMPI
#endif

/// What is wrong with MPI here.
public struct MPIError: Error, Hashable, Sendable, CustomStringConvertible {
    public let message: String
    public var description: String { message }
}

/// All processes that `mpirun` started, one rank each; the one place that speaks MPI.
///
/// Built with the package's trait `MPI`; without it there is no way to make one.
public final class MPIWorld: Communicator {
    public let rank: Int
    public let count: Int
    /// Ranks on this machine.
    public let localCount: Int

    #if MPI
        /// The library, with its version; nil in a build without MPI.
        public static var library: String? {
            var text = [CChar](repeating: 0, count: Int(touchstone_mpi_text()))
            touchstone_mpi_version(&text)
            let line = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            return String(line.prefix { $0 != "," && !$0.isNewline })
        }

        /// Joins the other processes; once in a process.
        ///
        /// - Throws: ``MPIError``.
        public init() throws {
            var (rank, count, local): (Int32, Int32, Int32) = (0, 1, 1)
            let code = touchstone_mpi_start(&rank, &count, &local)
            (self.rank, self.count, localCount) = (Int(rank), Int(count), max(1, Int(local)))
            guard code == 0 else { throw MPIError(message: "MPI does not start: \(Self.message(code))") }
        }

        public func exchange(
            _ source: UnsafeRawBufferPointer, _ parts: [Range<Int>], _ target: UnsafeMutableRawBufferPointer,
            _ places: [Range<Int>]
        ) throws -> Int {
            precondition(parts.count == count && places.count == count, "parts and places of \(count) ranks")
            var sent: Int64 = 0
            let nothing = UnsafeMutableRawPointer(bitPattern: 64)!
            try check(
                touchstone_mpi_exchange(
                    Int32(rank), Int32(count),
                    (source.baseAddress ?? UnsafeRawPointer(nothing)).assumingMemoryBound(to: CChar.self),
                    parts.map { Int64($0.lowerBound) }, parts.map { Int64($0.count) },
                    (target.baseAddress ?? nothing).assumingMemoryBound(to: CChar.self),
                    places.map { Int64($0.lowerBound) }, places.map { Int64($0.count) }, &sent))
            return Int(sent)
        }

        public func send(_ bytes: UnsafeRawBufferPointer, to rank: Int) throws {
            try check(touchstone_mpi_send(bytes.baseAddress, Int32(bytes.count), Int32(rank)))
        }

        public func receive(_ bytes: UnsafeMutableRawBufferPointer, from rank: Int) throws {
            try check(touchstone_mpi_receive(bytes.baseAddress, Int32(bytes.count), Int32(rank)))
        }

        /// Waits for all ranks to come here and ends MPI; false if one has not come within the time.
        public func leave(within seconds: Double) -> Bool {
            guard touchstone_mpi_meet(seconds) != 0 else { return false }
            touchstone_mpi_finish()
            return true
        }

        /// Ends all ranks at once.
        public func abort(_ code: Int32) { touchstone_mpi_abort(code) }

        private func check(_ code: Int32) throws {
            guard code == 0 else { throw CommunicationError(rank: rank, "MPI: \(Self.message(code))") }
        }

        private static func message(_ code: Int32) -> String {
            var text = [CChar](repeating: 0, count: Int(touchstone_mpi_text()))
            touchstone_mpi_message(code, &text)
            return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    #else
        public static var library: String? { nil }

        public init() throws {
            throw MPIError(
                message:
                    "this touchstone was built without MPI: install Open MPI (Debian: libopenmpi-dev openmpi-bin; Homebrew: open-mpi), then `swift build -c release --traits MPI`"
            )
        }

        public func exchange(
            _: UnsafeRawBufferPointer, _: [Range<Int>], _: UnsafeMutableRawBufferPointer, _: [Range<Int>]
        ) throws -> Int { throw Self.absent }
        public func send(_: UnsafeRawBufferPointer, to rank: Int) throws { throw Self.absent }
        public func receive(_: UnsafeMutableRawBufferPointer, from rank: Int) throws { throw Self.absent }
        public func leave(within seconds: Double) -> Bool { true }
        public func abort(_ code: Int32) {}

        private static let absent = MPIError(message: "there is no MPI in this build")
    #endif
}
