//! The two formats in which numbers are read: the text format of Prometheus 0.0.4, and OpenMetrics 1.0.0.

use std::fmt::Write;

use crate::{Exemplar, Sums};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// That of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0, which has exemplars.
    OpenMetrics,
}

impl Format {
    /// The format for a scraper with this `Accept` header: OpenMetrics where it is named and not refused by `q=0`.
    pub fn accepted(accept: &str) -> Self {
        let wants = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            let refused = |part: &str| {
                let quality = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
                quality.is_some_and(|quality| quality.parse().is_ok_and(|quality: f64| quality <= 0.0))
            };
            is_named && !parts.any(refused)
        };
        if accept.split(',').any(wants) { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Metrics as text.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
}

impl Exposition {
    /// Nothing yet.
    pub fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// Begins a counter, whose name must end with `_total`. Each name is begun once.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// Begins a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Begins a histogram.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        // OpenMetrics: the suffix belongs to the sample, and not to the family.
        let family = match self.format {
            Format::OpenMetrics if kind == "counter" => name.strip_suffix("_total").unwrap_or(name),
            Format::OpenMetrics | Format::Prometheus => name,
        };
        let _ = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}");
        Family { name, exposition: self }
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// One metric, to which samples are added.
#[derive(Debug)]
pub struct Family<'e> {
    name: &'static str,
    exposition: &'e mut Exposition,
}

/// Labels by name.
type Labels<'l> = &'l [(&'static str, &'l str)];

impl Family<'_> {
    /// Adds the value of a counter or gauge with these labels.
    pub fn sample(&mut self, labels: Labels<'_>, value: u64) {
        let text = &mut self.exposition.text;
        text.push_str(self.name);
        write_labels(text, labels, None);
        let _ = writeln!(text, " {value}");
    }

    /// Adds a histogram with these labels.
    pub fn sums(&mut self, labels: Labels<'_>, sums: &Sums) {
        let (name, format, text) = (self.name, self.exposition.format, &mut self.exposition.text);
        let mut total = 0;
        for (limit, up_to, exemplar) in sums.buckets() {
            total = up_to;
            let _ = write!(text, "{name}_bucket");
            // The same text in both formats, or a scraper that changes its format sees other series.
            let limit = if limit.is_infinite() { "+Inf".to_owned() } else { format!("{limit:?}") };
            write_labels(text, labels, Some(&limit));
            let _ = write!(text, " {up_to}");
            if let (Format::OpenMetrics, Some(Exemplar { trace, us, time })) = (format, exemplar) {
                let (value, at) = (us as f64 / 1e6, time as f64 / 1e3);
                let _ = write!(text, " # {{trace_id=\"{trace:032x}\"}} {value:?} {at:.3}");
            }
            text.push('\n');
        }
        for (suffix, value) in [("sum", format!("{:?}", sums.seconds())), ("count", total.to_string())] {
            let _ = write!(text, "{name}_{suffix}");
            write_labels(text, labels, None);
            let _ = writeln!(text, " {value}");
        }
    }
}

fn write_labels(text: &mut String, labels: Labels<'_>, le: Option<&str>) {
    let all = labels.iter().copied().chain(le.map(|le| ("le", le)));
    let mut before = '{';
    for (name, value) in all {
        text.push(before);
        before = ',';
        let _ = write!(text, "{name}=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    if before == ',' {
        text.push('}');
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use idm_types::{Timestamp, TraceId};

    use super::*;
    use crate::Histogram;

    fn written(format: Format) -> String {
        let mut out = Exposition::new(format);
        out.gauge("idm_a", "One.").sample(&[], 1);
        out.counter("idm_b_total", "Two.").sample(&[("x", "a\\b\"c\nd"), ("y", "é")], 2);
        let (histogram, mut sums) = (Histogram::default(), Sums::default());
        let trace = TraceId::of_traceparent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        histogram.observe(Duration::from_micros(80), Some((trace, Timestamp(1_700_000_000_123))));
        histogram.add_to(&mut sums);
        out.histogram("idm_c_seconds", "Three.").sums(&[("z", "1")], &sums);
        out.finish()
    }

    #[test]
    fn label_values_are_escaped_as_the_formats_say() {
        let text = written(Format::Prometheus);
        let head = "# HELP idm_a One.\n# TYPE idm_a gauge\nidm_a 1\n# HELP idm_b_total Two.\n# TYPE idm_b_total \
            counter\n\
                    idm_b_total{x=\"a\\\\b\\\"c\\nd\",y=\"é\"} 2\n";
        assert!(text.starts_with(head), "{text}");
        assert!(text.contains("\nidm_c_seconds_bucket{z=\"1\",le=\"0.0001\"} 1\n"), "{text}");
        assert!(
            text.ends_with("le=\"+Inf\"} 1\nidm_c_seconds_sum{z=\"1\"} 8e-5\nidm_c_seconds_count{z=\"1\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn openmetrics_has_exemplars_and_an_end() {
        let text = written(Format::OpenMetrics);
        assert!(text.contains("# TYPE idm_b counter\nidm_b_total{"), "{text}");
        let line = "idm_c_seconds_bucket{z=\"1\",le=\"0.0001\"} 1 \
                    # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 8e-5 1700000000.123\n";
        assert!(text.contains(line), "{text}");
        assert!(text.ends_with("} 1\n# EOF\n"), "{text}");
    }

    #[test]
    fn openmetrics_is_written_for_whoever_names_it() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain;version=0.0.4;q=0.5, */*;q=0.1", Format::Prometheus),
            ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", Format::OpenMetrics),
            ("text/plain, Application/OpenMetrics-Text; version=1.0.0; q=0.2", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text2", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
