/// The kernels of one instruction set: what the engine computes with.
///
/// Every set gives the same bits; they differ in speed alone. A set is one module, compiled for its instructions, from sources that the
/// sets share; the engine chooses at run time (``Engine``). Kernels allocate nothing and touch what they are given alone.
public final class KernelSet: Sendable {
    /// The name that `--isa` takes and reports give.
    public let name: String
    /// Rows and columns of the tile of outputs that stays in registers.
    public let tileRows: Int
    public let tileColumns: Int
    public let pack: Packing
    public let multiply: Multiply
    public let rows: RowKernels
    public let math: MathKernels
    public let squinch: SquinchKernels
    /// The machine's limit: `n` rounds of the tile's multiply-adds on registers alone; returns their floating-point operations.
    public let peak: @Sendable (_ n: Int) -> Int

    public init(
        name: String, tileRows: Int, tileColumns: Int, pack: Packing, multiply: @escaping Multiply, rows: RowKernels,
        math: MathKernels, squinch: SquinchKernels, peak: @escaping @Sendable (Int) -> Int
    ) {
        self.name = name
        self.tileRows = tileRows
        self.tileColumns = tileColumns
        self.pack = pack
        self.multiply = multiply
        self.rows = rows
        self.math = math
        self.squinch = squinch
        self.peak = peak
    }

    // MARK: - Products

    /// A bf16 matrix in memory, any orientation: element (i, k) at `pointer[i * stride + k * depthStride]`, i an output row or column, k
    /// the index that a product runs over. One of the strides is 1.
    public struct Operand {
        public let pointer: UnsafePointer<UInt16>
        public let stride: Int
        public let depthStride: Int

        public init(_ pointer: UnsafePointer<UInt16>, stride: Int, depthStride: Int) {
            self.pointer = pointer
            self.stride = stride
            self.depthStride = depthStride
        }
    }

    /// How operands become what `multiply` reads. Depth is padded with +0 to an even number, rows and columns to whole tiles.
    public final class Packing: Sendable {
        /// Bytes of `rows` packed rows of even depth `depth`.
        public let rowBytes: @Sendable (_ rows: Int, _ depth: Int) -> Int
        /// Bytes of `columns` packed columns of even depth `depth`.
        public let columnBytes: @Sendable (_ columns: Int, _ depth: Int) -> Int
        /// Rows `first..<first + count` of the operand's depth range, to `destination`.
        public let packRows:
            @Sendable (Operand, _ count: Int, _ depth: Int, _ destination: UnsafeMutableRawPointer) -> Void
        /// As `packRows`, in panels of `tileColumns`; a panel's depth begins at `panelDepth * panel` and `depthOffset` in it, so that several parts
        /// of a composite depth stand behind one another.
        public let packColumns:
            @Sendable (
                Operand, _ count: Int, _ depth: Int, _ panelDepth: Int, _ depthOffset: Int,
                _ destination: UnsafeMutableRawPointer
            ) -> Void

        public init(
            rowBytes: @escaping @Sendable (Int, Int) -> Int, columnBytes: @escaping @Sendable (Int, Int) -> Int,
            packRows: @escaping @Sendable (Operand, Int, Int, UnsafeMutableRawPointer) -> Void,
            packColumns: @escaping @Sendable (Operand, Int, Int, Int, Int, UnsafeMutableRawPointer) -> Void
        ) {
            self.rowBytes = rowBytes
            self.columnBytes = columnBytes
            self.packRows = packRows
            self.packColumns = packColumns
        }
    }

    /// A block of outputs: C += A B by a recipe, A from `packRows`, B from `packColumns`.
    public struct Block {
        /// Packed rows.
        public var a: UnsafeRawPointer
        /// The operand's own depth was contiguous (its depthStride 1).
        public var isDepthContiguous: Bool
        /// Rows that were packed together with these.
        public var packedRows: Int
        /// Depth that was packed together with this, even.
        public var packedDepth: Int
        /// The first packed column panel, at the depth where the block begins.
        public var b: UnsafeRawPointer
        /// Depth of a whole packed column panel, even.
        public var panelDepth: Int
        /// fp32, `cStride` floats a row; whole tiles of rows and columns may be written.
        public var c: UnsafeMutablePointer<Float>
        public var cStride: Int
        public var rows: Int
        public var columns: Int
        /// Even.
        public var depth: Int
        /// Whether C's accumulators go on, or begin at +0.
        public var accumulates: Bool
        /// D1 if true, else D2.
        public var isPairedFTZ: Bool

        public init(
            a: UnsafeRawPointer, isDepthContiguous: Bool, packedRows: Int, packedDepth: Int, b: UnsafeRawPointer,
            panelDepth: Int, c: UnsafeMutablePointer<Float>, cStride: Int, rows: Int, columns: Int, depth: Int,
            accumulates: Bool, isPairedFTZ: Bool
        ) {
            self.a = a
            self.isDepthContiguous = isDepthContiguous
            self.packedRows = packedRows
            self.packedDepth = packedDepth
            self.b = b
            self.panelDepth = panelDepth
            self.c = c
            self.cStride = cStride
            self.rows = rows
            self.columns = columns
            self.depth = depth
            self.accumulates = accumulates
            self.isPairedFTZ = isPairedFTZ
        }
    }

    public typealias Multiply = @Sendable (Block) -> Void
}
