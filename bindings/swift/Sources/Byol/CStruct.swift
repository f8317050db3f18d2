// libbyol's structs and texts, as Swift starts and reads them.
import CByol

/// A struct that begins with its own size, which tells libbyol what version of it the caller knows.
protocol CStruct {
    init()
    var struct_size: UInt32 { get set }
}

extension CStruct {
    /// The struct with its size and zeros, which stand for the defaults.
    static func started() -> Self {
        var new = Self()
        new.struct_size = UInt32(MemoryLayout<Self>.size)
        return new
    }
}

extension byol_error: CStruct {}
extension byol_runtime_options: CStruct {}
extension byol_source: CStruct {}
extension byol_model_info: CStruct {}
extension byol_contract: CStruct {}
extension byol_encoder_options: CStruct {}
extension byol_encoder_info: CStruct {}
extension byol_image: CStruct {}
extension byol_extract_options: CStruct {}
extension byol_head_info: CStruct {}
extension byol_fit_options: CStruct {}
extension byol_fit_report: CStruct {}
extension byol_metrics: CStruct {}
extension byol_runtime_stats: CStruct {}
extension byol_image_info: CStruct {}
extension byol_features_info: CStruct {}
extension byol_trainer_info: CStruct {}
extension byol_search_options: CStruct {}

/// The text in an array of char, which Swift sees as a tuple.
func string<Characters>(_ characters: Characters) -> String {
    withUnsafeBytes(of: characters) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
}

/// One of the texts that libbyol writes into a buffer of the caller's.
func readText(
    _ read: (UnsafeMutablePointer<CChar>, Int, UnsafeMutablePointer<Int>, UnsafeMutablePointer<byol_error>) -> byol_status
) throws(ByolError) -> String {
    var needed = 256
    while true {
        var buffer = [CChar](repeating: 0, count: needed)
        do throws(ByolError) {
            try attempt { error in
                buffer.withUnsafeMutableBufferPointer { read($0.baseAddress!, $0.count, &needed, error) }
            }
            return buffer.withUnsafeBytes { String(decoding: $0.prefix(needed - 1), as: UTF8.self) }
        } catch {
            // What is read may have grown since it was asked for.
            guard error.code == .bufferTooSmall, needed > buffer.count else { throw error }
        }
    }
}

/// C takes a text up to its first NUL, so one with a NUL inside would be another text there.
func checkNoNUL(_ text: String, _ what: String, item: Int? = nil) throws(ByolError) {
    if text.utf8.contains(0) {
        throw ByolError(.invalidArgument, "\(what) holds a NUL", item: item)
    }
}

/// Lends C an optional text: NULL for nil.
func withText<Result>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> Result) -> Result {
    guard let text else { return body(nil) }
    return text.withCString(body)
}

/// Lends C an array of texts; NULL for none.
func withTexts<Result>(_ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> Result) -> Result {
    if texts.isEmpty { return body(nil) }
    var characters: [CChar] = []
    var starts: [Int] = []
    for text in texts {
        starts.append(characters.count)
        characters.append(contentsOf: text.utf8.lazy.map(CChar.init(bitPattern:)))
        characters.append(0)
    }
    return characters.withUnsafeBufferPointer { characters in
        let pointers = starts.map { start in characters.baseAddress.map { $0 + start } }
        return pointers.withUnsafeBufferPointer { body($0.baseAddress) }
    }
}

/// Lends C an optional array; NULL for nil.
func withArray<Element, Result>(_ array: [Element]?, _ body: (UnsafePointer<Element>?) -> Result) -> Result {
    guard let array else { return body(nil) }
    return array.withUnsafeBufferPointer { body($0.baseAddress) }
}

/// A number for C's uint32_t.
func unsigned(_ value: Int, _ what: String) throws(ByolError) -> UInt32 {
    guard let number = UInt32(exactly: value) else {
        throw ByolError(.invalidArgument, "\(what) is \(value)")
    }
    return number
}

/// The size of an array to make, or an error where no array is that long.
func product(_ rows: Int, _ columns: Int) throws(ByolError) -> Int {
    let (size, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard !overflow, size <= 1 << 40 else {
        throw ByolError(.noMemory, "no room for \(rows) times \(columns) values")
    }
    return size
}
