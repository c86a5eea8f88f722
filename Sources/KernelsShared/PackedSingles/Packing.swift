import CVector
import Kernels

/// Factors as fp32. Rows keep their orientation: depth contiguous or rows contiguous, at a padded stride.
enum Packing {
    static let packing = KernelSet.Packing(
        rowBytes: { rows, depth in
            // Either orientation, and whole tiles beyond the last row.
            let tiles = roundedUp(rows, Product.tileRows)
            return 4 * max(tiles * stride(depth), depth * stride(tiles)) + 128
        },
        columnBytes: { columns, depth in 4 * roundedUp(columns, Product.tileColumns) * depth },
        packRows: packRows, packColumns: packColumns)

    @inline(__always)
    static func roundedUp(_ n: Int, _ unit: Int) -> Int { (n + unit - 1) / unit * unit }

    /// The stride of packed rows: not a multiple of the size of a cache's way.
    @inline(__always)
    static func stride(_ n: Int) -> Int { roundedUp(n, 16) + 16 }

    static func packRows(_ x: KernelSet.Operand, _ count: Int, _ depth: Int, _ destination: UnsafeMutableRawPointer) {
        let out = destination.assumingMemoryBound(to: Float.self)
        let even = depth + depth % 2
        if x.depthStride == 1 {
            let stride = stride(even)
            for row in 0..<count {
                Widening.widen(x.pointer + row &* x.stride, out + row &* stride, depth)
                if even > depth { out[row &* stride &+ depth] = 0 }
            }
        } else {
            let stride = stride(count)
            for k in 0..<depth { Widening.widen(x.pointer + k &* x.depthStride, out + k &* stride, count) }
            if even > depth {
                for row in 0..<count { out[depth &* stride &+ row] = 0 }
            }
        }
    }

    static func packColumns(
        _ x: KernelSet.Operand, _ count: Int, _ depth: Int, _ panelDepth: Int, _ depthOffset: Int,
        _ destination: UnsafeMutableRawPointer
    ) {
        let even = depth + depth % 2
        var column = 0
        var panel = destination.assumingMemoryBound(to: Float.self) + depthOffset &* Product.tileColumns
        while column < count {
            let width = min(Product.tileColumns, count &- column)
            let source = x.pointer + column &* x.stride
            if width == Product.tileColumns && x.stride == 1 {
                for k in 0..<depth {
                    let (from, to) = (source + k &* x.depthStride, panel + k &* Product.tileColumns)
                    for part in Swift.stride(from: 0, to: Product.tileColumns, by: 16) {
                        ts_store(to + part, ts_load_bf16(from + part))
                    }
                }
            } else {
                for k in 0..<depth {
                    for j in 0..<width {
                        panel[k &* Product.tileColumns &+ j] = Widening.widened(
                            source[j &* x.stride &+ k &* x.depthStride])
                    }
                    for j in width..<Product.tileColumns { panel[k &* Product.tileColumns &+ j] = 0 }
                }
            }
            if even > depth {
                for j in 0..<Product.tileColumns { panel[depth &* Product.tileColumns &+ j] = 0 }
            }
            column &+= Product.tileColumns
            panel += panelDepth &* Product.tileColumns
        }
    }
}
