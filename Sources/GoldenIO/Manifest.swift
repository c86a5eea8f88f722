import Cases
import Crypto
import JSON
import Platform

/// What is in a folder of golden files: `MANIFEST.json`.
public struct Manifest: Sendable, Hashable {
    /// One golden file.
    public struct Entry: Sendable, Hashable {
        /// Relative to the manifest's folder.
        public var path: String
        public var suite: String
        public var tier: String
        /// How many cases the file holds.
        public var cases: Int
        /// Of the seeded cases: 16 hex digits in the manifest.
        public var seed: UInt64
        /// The size of the file.
        public var bytes: Int
        /// Of the file's bytes: 64 lower-case hex digits.
        public var sha256: String

        public init(path: String, suite: String, tier: String, cases: Int, seed: UInt64, bytes: Int, sha256: String) {
            self.path = path
            self.suite = suite
            self.tier = tier
            self.cases = cases
            self.seed = seed
            self.bytes = bytes
            self.sha256 = sha256
        }
    }

    public var specVersion: String
    /// The program that wrote the files, with its version.
    public var generator: String
    public var files: [Entry]

    public init(specVersion: String, generator: String, files: [Entry]) {
        self.specVersion = specVersion
        self.generator = generator
        self.files = files
    }

    /// Reads a manifest. - Throws: ``/Cases/GoldenIOError`` naming the file and the field that is missing or wrong.
    public init(reading path: String) throws(GoldenIOError) {
        let bytes: [UInt8]
        do {
            bytes = try Files.bytes(of: path)
        } catch {
            throw GoldenIOError(.fileSystem, file: path, "cannot \(error.operation): \(error.reason)")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw GoldenIOError(.malformed, file: path, "the manifest is not UTF-8")
        }
        do {
            try self.init(json: try JSONValue(text: text))
        } catch {
            throw GoldenIOError(.malformed, file: path, "\(error)")
        }
    }

    /// Writes the manifest: files in the order of their paths, keys sorted, two spaces of indentation, a newline at the
    /// end. The file at `path` holds its old bytes or all of the new.
    public func write(to path: String) throws(GoldenIOError) {
        do {
            try Files.replace(path, with: Array((json.text(indented: true) + "\n").utf8))
        } catch let error as FileError {
            throw GoldenIOError(.fileSystem, file: path, "cannot \(error.operation): \(error.reason)")
        } catch {
            throw GoldenIOError(.malformed, file: path, "\(error)")
        }
    }
}

extension Manifest: Codable {
    public init(from decoder: any Decoder) throws { try self.init(json: JSONValue(from: decoder)) }

    public func encode(to encoder: any Encoder) throws { try json.encode(to: encoder) }

    /// The manifest as JSON; the files in the order of their paths.
    private var json: JSONValue {
        let files = files.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
        return .object([
            "spec_version": .string(specVersion),
            "generator": .string(generator),
            "files": .array(
                files.map { file in
                    .object([
                        "path": .string(file.path),
                        "suite": .string(file.suite),
                        "tier": .string(file.tier),
                        "cases": .integer(Int64(file.cases)),
                        "seed": .string(hexadecimal(file.seed)),
                        "bytes": .integer(Int64(file.bytes)),
                        "sha256": .string(file.sha256),
                    ])
                }),
        ])
    }

    private init(json: JSONValue) throws(ManifestError) {
        let manifest = try Fields(json, "the manifest")
        specVersion = try manifest.string("spec_version")
        generator = try manifest.string("generator")
        var files: [Entry] = []
        for (index, entry) in try manifest.array("files").enumerated() {
            let file = try Fields(entry, "files[\(index)]")
            let seed = try file.string("seed")
            guard let seedValue = parseHexadecimal(seed) else {
                throw ManifestError(description: "files[\(index)]: seed is \"\(seed)\", expected 16 hex digits")
            }
            files.append(
                Entry(
                    path: try file.string("path"), suite: try file.string("suite"), tier: try file.string("tier"),
                    cases: try file.count("cases"), seed: seedValue, bytes: try file.count("bytes"),
                    sha256: try file.string("sha256")))
        }
        self.files = files
    }
}

private struct ManifestError: Error, CustomStringConvertible { let description: String }

/// The members of a JSON object, each of the type that the manifest asks for.
private struct Fields {
    let members: [String: JSONValue]
    let place: String

    init(_ value: JSONValue, _ place: String) throws(ManifestError) {
        guard case .object(let members) = value else { throw ManifestError(description: "\(place) is no JSON object") }
        self.members = members
        self.place = place
    }

    func string(_ key: String) throws(ManifestError) -> String {
        guard case .string(let value) = members[key] else { throw wrong(key, "a string") }
        return value
    }

    func count(_ key: String) throws(ManifestError) -> Int {
        guard case .integer(let value) = members[key], value >= 0, let count = Int(exactly: value) else {
            throw wrong(key, "a count")
        }
        return count
    }

    func array(_ key: String) throws(ManifestError) -> [JSONValue] {
        guard case .array(let values) = members[key] else { throw wrong(key, "an array") }
        return values
    }

    private func wrong(_ key: String, _ expected: String) -> ManifestError {
        ManifestError(
            description: "\(place): \(key) is \(members[key] == nil ? "missing" : "wrong"), expected \(expected)")
    }
}

/// The SHA-256 of a file's bytes (FIPS 180-4), as 64 lower-case hex digits. Reads 1 MiB at a time.
public func sha256(ofFile path: String) throws(GoldenIOError) -> String {
    var hash = SHA256()
    do {
        try Files.forEachBlock(of: path) { hash.update(bufferPointer: $0) }
    } catch {
        throw GoldenIOError(.fileSystem, file: path, "cannot \(error.operation): \(error.reason)")
    }
    return hash.finalize().map { byte in
        let digits = String(byte, radix: 16)
        return byte < 16 ? "0" + digits : digits
    }.joined()
}
