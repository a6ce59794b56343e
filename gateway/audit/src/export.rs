//! Records for other programs: JSON lines, and CSV for spreadsheets.

use crate::StoredRecord;

/// The first line of CSV, without its end.
pub const CSV_HEAD: &str = "time,id,kind,outcome,reason,status,who,evidence,namespace,title,source,detail";

/// The record as one line of JSON, without its end. Nothing in it controls a terminal.
pub fn json_line(record: &StoredRecord) -> &str {
    record.json()
}

/// The record as one line of CSV (RFC 4180) under [`CSV_HEAD`], without its end.
///
/// Callers wrote parts of it. No cell is a formula for a spreadsheet: one that would be begins with an apostrophe.
pub fn csv_line(record: &StoredRecord) -> String {
    let status = record.status().map(|status| status.to_string()).unwrap_or_default();
    let (title, detail) = (record.title(), record.detail());
    let kind = record.kind().map(crate::RecordKind::name).unwrap_or_default();
    let cells = [
        record.time(),
        record.id(),
        kind,
        record.outcome(),
        record.reason().unwrap_or_default(),
        &status,
        record.who(),
        record.evidence().unwrap_or_default(),
        record.namespace(),
        &title,
        record.source(),
        &detail,
    ];
    cells.map(cell).join(",")
}

/// Always quoted, so that no separator of any country splits it.
fn cell(text: &str) -> String {
    let is_formula = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠', '|', '%']);
    let mark = if is_formula { "'" } else { "" };
    format!("\"{mark}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_of_csv_has_the_columns_of_its_head() {
        let change = StoredRecord::of(json!({
            "kind": "Change", "@timestamp": "2027-01-01T00:00:00.000Z", "id": "1", "action": "Updated",
            "object": {"kind": "Credential", "namespace": "shop", "name": "a"}, "actor": "ana",
            "by": {"evidence": "authenticated"}, "diff": ["spec.a: 1 -> 2", "spec.b: \"x\", set"],
        }));
        assert_eq!(
            csv_line(&change),
            "\"2027-01-01T00:00:00.000Z\",\"1\",\"Change\",\"Updated\",\"\",\"\",\"ana\",\"authenticated\",\"shop\",\
             \"Credential shop/a\",\"\",\"spec.a: 1 -> 2; spec.b: \"\"x\"\", set\""
        );
        let decision = StoredRecord::of(json!({
            "kind": "Decision", "@timestamp": "2027-01-01T00:00:00.000Z", "id": "2", "outcome": "Denied",
            "reason": "NoCredentials", "status": 401, "namespace": "shop", "detail": "d",
            "request": {"method": "GET", "host": "h", "path": "/p", "source": "192.0.2.1"},
            "identity": {"kind": "anonymous"},
        }));
        assert_eq!(
            csv_line(&decision),
            "\"2027-01-01T00:00:00.000Z\",\"2\",\"Decision\",\"Denied\",\"NoCredentials\",\"401\",\"anonymous\",\"\",\
             \"shop\",\"GET h/p\",\"192.0.2.1\",\"d\""
        );
        assert_eq!(CSV_HEAD.split(',').count(), 12);
    }

    #[test]
    fn no_cell_is_a_formula_or_ends_a_line() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\u{a0}=1", "＝1", "|calc", "%x"] {
            let name = StoredRecord::of(json!({"kind": "Change", "actor": bad, "object": {"name": "\r\n=1"}}));
            let line = csv_line(&name);
            assert!(line.contains(&format!("\"'{bad}\"")), "{line}");
            assert!(!line.contains(['\r', '\n']), "{line}");
        }
        assert_eq!(cell("a\"=1"), "\"a\"\"=1\"");
    }
}
