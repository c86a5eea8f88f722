import Foundation
import Goldens
import JSON
import ModelSpec
import Testing

@Suite("Configurations")
struct ConfigurationTests {
    @Test("a configuration survives its recipe, with and without bits", arguments: ModelConfiguration.Preset.allCases)
    func roundTrip(preset: ModelConfiguration.Preset) throws {
        var c = ModelConfiguration(preset: preset)
        c.seed = 0xFEDC_BA98_7654_3210
        c.beta1 = 0.1
        try c.validate()
        for bits in [true, false] {
            let text = try JSONValue.object(c.recipe(withBits: bits)).text()
            guard case .object(let recipe) = try JSONValue(text: text) else {
                Issue.record("a recipe is not an object")
                return
            }
            #expect(try ModelConfiguration(recipe: recipe) == c)
        }
        #expect(try ModelConfiguration.reading(preset.rawValue) == ModelConfiguration(preset: preset))
    }

    static let refused: [(String, String)] = [
        (#"{"widht": 3}"#, "'widht': is unknown; did you mean 'width'"),
        (#"{"width": "3"}"#, "'width': is \"3\"; expected an integer"),
        (#"{"width": 0}"#, "'width': is 0"), (#"{"heads": 4, "key_value_heads": 3}"#, "does not divide"),
        (#"{"head_dimension": 3}"#, "even"), (#"{"dot": "fast"}"#, "one of paired-ftz, chain-ieee"),
        (#"{"windows": [1]}"#, "'windows': has 1 entries"), (#"{"windows": 3}"#, "an array of integers"),
        (#"{"key_value_source": [0, 2]}"#, "'key_value_source': gives layer 1 the source 2"),
        (#"{"layers": 3, "key_value_source": [0, 0, 1]}"#, "gives layer 2 the source 1"),
        (#"{"int8": 1}"#, "true or false"), (#"{"int8": true, "clamp": "none"}"#, "'int8'"),
        (#"{"beta1": 1}"#, "'beta1': is 1.0"),
        (#"{"beta1": 0.5, "beta1_bits": "3f666666"}"#, "beta1_bits says 0.9"),
        (#"{"beta1_bits": "3F666666"}"#, "8 lower-case hex digits"),
        (#"{"seed": 3}"#, "16 lower-case hex digits"), (#"{"ranks": 9}"#, "'ranks': is 9; expected 1 to 4"),
        (#"{"preset": "huge"}"#, "'preset': is \"huge\"; expected one of tiny, small, bench"),
        ("[]", "not a JSON object"),
        (#"{"width": 3,}"#, "byte"), (#"{"width": 3, "width": 4}"#, "width"), (#"{"learning_rate": 1e999}"#, "byte"),
    ]

    @Test("a file that is no configuration is an error that names the file and the key", arguments: refused)
    func refusals(text: String, message: String) throws {
        let path = NSTemporaryDirectory() + "/touchstone-configuration-\(UUID().uuidString).json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        let error = #expect(throws: ConfigurationFileError.self) { try ModelConfiguration.reading(path) }
        #expect(error?.path == path && error?.message.contains(message) == true, "\(String(describing: error))")
    }

    @Test("a preset to start from; no such file; not UTF-8")
    func files() throws {
        let path = NSTemporaryDirectory() + "/touchstone-configuration-\(UUID().uuidString).json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try Data(#"{"preset": "small", "layers": 6, "batch": 2}"#.utf8).write(to: URL(fileURLWithPath: path))
        var expected = ModelConfiguration(preset: .small)
        expected.batch = 2
        #expect(try ModelConfiguration.reading(path) == expected)
        try Data([0x7B, 0xFF, 0x7D]).write(to: URL(fileURLWithPath: path))
        #expect(throws: ConfigurationFileError.self) { try ModelConfiguration.reading(path) }
        #expect(throws: ConfigurationFileError.self) { try ModelConfiguration.reading("no-such-file") }
        #expect(throws: ConfigurationFileError.self) { try ModelConfiguration.reading(NSTemporaryDirectory()) }
    }
}
