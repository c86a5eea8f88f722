import Cases
import Foundation
import GoldenIO
import JSON
import Testing

@Suite struct JSONTextTests {
    static let texts: [(String, JSONValue)] = [
        ("null", .null), ("true", true), ("false", false), ("0", 0), ("-1", -1),
        ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
        ("0.1", .number(0.1)), ("1.0", .number(1)), ("-0.0", .number(-0.0)), ("1e+300", .number(1e300)),
        ("5e-324", .number(.leastNonzeroMagnitude)), ("\"\"", ""), ("\"é🙂\"", "é🙂"),
        (#""\"\\\n\r\t\u0001\u007f""#, "\"\\\n\r\t\u{01}\u{7F}"),
        ("[]", .array([])), ("{}", .object([:])), ("[1,[2.5,null]]", .array([1, .array([.number(2.5), .null])])),
        (#"{"B":1,"a":2,"b":{"é":[]}}"#, .object(["b": .object(["é": .array([])]), "a": 2, "B": 1])),
    ]

    @Test("A value and its text", arguments: texts.indices)
    func roundTrip(index: Int) throws {
        let (text, value) = Self.texts[index]
        #expect(try value.text() == text)
        #expect(try JSONValue(text: text) == value)
        #expect(try JSONValue(text: value.text(indented: true)) == value)
        if case .number(let number) = value, case .number(let read) = try JSONValue(text: text) {
            #expect(number.bitPattern == read.bitPattern)
        }
    }

    @Test("Other spellings that are JSON")
    func spellings() throws {
        #expect(try JSONValue(text: " \t\r\n[ 1 , 2 ]\n") == .array([1, 2]))
        #expect(try JSONValue(text: #""\u00e9\ud83d\ude42\/\b\f""#) == "é🙂/\u{08}\u{0C}")
        #expect(try JSONValue(text: "1E2") == .number(100))
        #expect(try JSONValue(text: "-0") == .number(-0.0))
        #expect(try JSONValue(text: "9223372036854775808") == .number(9_223_372_036_854_775_808))
    }

    static let bad = [
        "", " ", "nul", "truefalse", "1 2", "01", "+1", ".5", "1.", "1e", "-", "1e999", "NaN", "Infinity", "'a'", "\"",
        "\"\\",
        "\"\\x\"", "\"\\u12\"", "\"\\ud83d\"", "\"\\ud83dx\"", "\"\\ude42\"", "\"\n\"", "[", "[1", "[1,]", "[,]", "]",
        "{", "{\"a\"}",
        "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1,\"a\":2}", "{\"a\":1]", "// x\n1",
    ]

    @Test("What is not JSON is an error with its place", arguments: bad)
    func malformed(text: String) {
        #expect(throws: JSONError.self) { try JSONValue(text: text) }
    }

    @Test("Depth is limited, so that no text exhausts the stack")
    func depth() throws {
        let deep = String(repeating: "[", count: 128) + String(repeating: "]", count: 128)
        _ = try JSONValue(text: deep)
        #expect(throws: JSONError.self) { try JSONValue(text: "[\(deep)]") }
        #expect(throws: JSONError.self) { try JSONValue(text: String(repeating: "{\"a\":", count: 1_000_000)) }
    }

    @Test("Numbers that JSON cannot hold are not written", arguments: [Double.nan, .infinity, -.infinity])
    func nonFinite(value: Double) {
        #expect(throws: JSONError.self) { try JSONValue.array([.number(value)]).text() }
    }
}

@Suite struct ManifestTests {
    static let manifest = Manifest(
        specVersion: "1.0", generator: "touchstone 0.1",
        files: [
            Manifest.Entry(
                path: "dot/gemm.h5", suite: "dot", tier: "quick", cases: 3, seed: 1, bytes: 4096,
                sha256: String(repeating: "0f", count: 32)),
            Manifest.Entry(
                path: "bf16/add.h5", suite: "bf16", tier: "quick", cases: 12, seed: .max, bytes: 0, sha256: ""),
        ])

    static let text = """
        {
          "files": [
            {
              "bytes": 0,
              "cases": 12,
              "path": "bf16/add.h5",
              "seed": "ffffffffffffffff",
              "sha256": "",
              "suite": "bf16",
              "tier": "quick"
            },
            {
              "bytes": 4096,
              "cases": 3,
              "path": "dot/gemm.h5",
              "seed": "0000000000000001",
              "sha256": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
              "suite": "dot",
              "tier": "quick"
            }
          ],
          "generator": "touchstone 0.1",
          "spec_version": "1.0"
        }

        """

    @Test("Written sorted, with a newline at the end, and read back")
    func roundTrip() throws {
        let folder = try TemporaryFolder()
        try Self.manifest.write(to: folder["MANIFEST.json"])
        #expect(try String(decoding: bytes(ofFile: folder["MANIFEST.json"]), as: UTF8.self) == Self.text)
        var sorted = Self.manifest
        sorted.files.reverse()
        #expect(try Manifest(reading: folder["MANIFEST.json"]) == sorted)
        #expect(try folder.contents == ["MANIFEST.json"])
        #expect(try JSONDecoder().decode(Manifest.self, from: JSONEncoder().encode(Self.manifest)) == sorted)
    }

    static let wrong: [(String, String)] = [
        ("", "expected a value"), ("[]", "no JSON object"), ("{}", "spec_version is missing"),
        (#"{"spec_version":1,"generator":"","files":[]}"#, "spec_version is wrong, expected a string"),
        (#"{"spec_version":"","generator":"","files":{}}"#, "files is wrong, expected an array"),
        (#"{"spec_version":"","generator":"","files":[3]}"#, "files[0] is no JSON object"),
        (text.replacingOccurrences(of: "4096", with: "-1"), "files[1]: bytes is wrong, expected a count"),
        (text.replacingOccurrences(of: "4096", with: "4096.5"), "files[1]: bytes is wrong, expected a count"),
        (text.replacingOccurrences(of: "\"ffff", with: "\"xyzw"), "expected 16 hex digits"),
        (text.replacingOccurrences(of: "\"ffff", with: "\"+fff"), "expected 16 hex digits"),
    ]

    @Test("A manifest that says something else is an error that names the field", arguments: wrong.indices)
    func malformed(index: Int) throws {
        let folder = try TemporaryFolder()
        let (text, words) = Self.wrong[index]
        try write(Array(text.utf8), toFile: folder["MANIFEST.json"])
        let error = try #require(failure { try Manifest(reading: folder["MANIFEST.json"]) })
        #expect(error.kind == .malformed)
        #expect(error.message.contains(words), "\(error)")
    }

    @Test("No such file or folder; bytes that are not UTF-8")
    func unreadable() throws {
        let folder = try TemporaryFolder()
        #expect(failure { try Manifest(reading: folder["absent"]) }?.kind == .fileSystem)
        #expect(failure { try Self.manifest.write(to: folder["absent/MANIFEST.json"]) }?.kind == .fileSystem)
        #expect(failure { try sha256(ofFile: folder["absent"]) }?.kind == .fileSystem)
        try write([0xFF], toFile: folder["MANIFEST.json"])
        #expect(failure { try Manifest(reading: folder["MANIFEST.json"]) }?.kind == .malformed)
    }

    @Test(
        "SHA-256 of FIPS 180-4's examples",
        arguments: [
            ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                String(repeating: "a", count: 1_000_000),
                "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
            ),
        ])
    func hash(text: String, expected: String) throws {
        let folder = try TemporaryFolder()
        try write(Array(text.utf8), toFile: folder["a"])
        #expect(try sha256(ofFile: folder["a"]) == expected)
    }
}
