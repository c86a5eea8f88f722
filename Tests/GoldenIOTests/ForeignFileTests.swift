import Cases
import GoldenIO
import Testing

/// Files that h5py has written (Tools/h5py-fixtures.py).
@Suite struct ForeignFileTests {
    static let bf16: [UInt16] = [0x7F81, 0xFFC1, 0x8000, 0x0000, 0x7F80, 0xFF80, 0x0001, 0x3F80]
    static let fp16: [UInt16] = [0x7C01, 0xFE01, 0x8000, 0x0000, 0x7C00, 0xFC00, 0x0001, 0x3C00]
    static let fp32: [UInt32] = [0x7F80_0001, 0xFFC0_0001, 0x8000_0000, 0, 0x7F80_0000, 0xFF80_0000, 1, 0x3F80_0000]
    static let fp64: [UInt64] = [
        0x7FF0_0000_0000_0001, 0xFFF8_0000_0000_0001, 1 << 63, 0, 0x7FF << 52, 0xFFF << 52, 1, 0x3FF << 52,
    ]

    static func everyType(shape: [Int]) -> [NamedTensor] {
        [
            NamedTensor("bf16", Tensor(bf16: bf16, shape: shape)),
            NamedTensor("fp16", Tensor(fp16: fp16, shape: shape)),
            NamedTensor("fp32", Tensor(fp32: fp32, shape: shape)),
            NamedTensor("fp64", Tensor(fp64: fp64, shape: shape)),
            NamedTensor("int16", Tensor([0, 1, .max, .min, .min + 1, -1, 2, 0x0102] as [Int16], shape: shape)),
            NamedTensor("int32", Tensor([0, 1, .max, .min, .min + 1, -1, 2, 0x0102_0304] as [Int32], shape: shape)),
            NamedTensor(
                "int64", Tensor([0, 1, .max, .min, .min + 1, -1, 2, 0x0102_0304_0506_0708] as [Int64], shape: shape)),
            NamedTensor("int8", Tensor([0, 1, .max, .min, .min + 1, -1, 2, 3] as [Int8], shape: shape)),
            NamedTensor("uint16", Tensor([0, 1, 0x7FFF, 0x8000, 0x8001, .max, 2, 0x0102] as [UInt16], shape: shape)),
            NamedTensor(
                "uint32",
                Tensor([0, 1, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, .max, 2, 0x0102_0304] as [UInt32], shape: shape)),
            NamedTensor(
                "uint64",
                Tensor(
                    [0, 1, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, .max, 2, 0x0102_0304_0506_0708] as [UInt64],
                    shape: shape)),
            NamedTensor("uint8", Tensor([0, 1, 0x7F, 0x80, 0x81, 0xFF, 2, 3] as [UInt8], shape: shape)),
        ]
    }

    @Test(
        "F1, F2: every type, byte order, layout and filter gives the same bits",
        arguments: ["little-endian", "big-endian", "big-endian-gzip", "format-1.10"])
    func everyType(name: String) throws {
        let file = try GoldenFile(reading: fixture(name))
        #expect(file.header == GoldenHeader(specVersion: "", suite: "", tier: "", generator: "", seed: 0))
        #expect(file.caseNames == ["every-type"])
        let goldenCase = try file.readCase("every-type")
        #expect(goldenCase.op == "test.types")
        #expect(goldenCase.why == "written by h5py: größer")
        #expect(goldenCase.specClauses == ["F1", "F2"])
        #expect(goldenCase.recipe == ["rounding": "rne", "k": 3])
        #expect(goldenCase.inputs.tensors == Self.everyType(shape: [2, 4]))
    }

    @Test("Strings of fixed and variable length, every padding, scalar and array")
    func strings() throws {
        let file = try GoldenFile(reading: fixture("strings"))
        #expect(file.header.seed == 0xFF)
        #expect(file.header.suite == "bf16")
        // The group tracks the order of creation, which is not that of the names.
        #expect(
            file.caseNames == [
                "zero-terminated", "zero-padded", "space-padded", "array-of-one", "fixed-array", "empty",
            ])
        for name in file.caseNames.dropLast() { #expect(try file.readCase(name).op == "ab", "\(name)") }
        #expect(try file.readCase("array-of-one").specClauses == ["B1"])
        #expect(try file.readCase("fixed-array").specClauses == ["B1", "B22"])
        #expect(try file.readCase("empty") == GoldenCase(name: "empty", op: ""))
    }

    @Test("UInt16 bits that an attribute names, and other plain datasets")
    func bits() throws {
        let inputs = try GoldenFile(reading: fixture("bits")).readCase("bits").inputs
        let bf16 = Tensor(bf16: Self.bf16, shape: [8])
        let fp16 = Tensor(fp16: Self.fp16, shape: [8])
        #expect(
            inputs.tensors == [
                NamedTensor("bf16", bf16), NamedTensor("bf16-big-endian", bf16),
                NamedTensor("compact", Tensor([7, 8, 9] as [Int32], shape: [3])),
                NamedTensor("fp16", fp16), NamedTensor("fp16-big-endian", fp16),
                NamedTensor("fp32", Tensor(fp32: Self.fp32, shape: [8])),
                NamedTensor("growing", Tensor([0, 1, 2, 3, 4] as [Int32], shape: [5])),
                NamedTensor("no-rows", Tensor([] as [Int32], shape: [0, 3])),
                NamedTensor("scalar", Tensor([2.5], shape: [])),
                NamedTensor("uint16", Tensor(Self.bf16, shape: [8])),
            ])
    }

    @Test("A file behind a user block")
    func userBlock() throws {
        let file = try GoldenFile(reading: fixture("user-block"))
        let goldenCase = try file.readCase("bits")
        #expect(goldenCase.op == "test.block")
        #expect(goldenCase.inputs["x"] == Tensor([0, 1, 2] as [Int32], shape: [3]))
    }
}
