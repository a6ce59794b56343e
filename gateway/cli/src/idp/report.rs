//! Findings of a probe, a line each.

use idm_types::Visible;

enum Mark {
    /// It was done, and the lines after it judge it.
    Step,
    Good,
    Notable,
    Bad,
}

/// Findings in the order they were made.
#[derive(Default)]
pub(super) struct Report(Vec<(Mark, String, (String, Option<String>))>);

impl Report {
    pub(super) fn step(&mut self, what: &str, found: impl Into<String>) {
        self.0.push((Mark::Step, what.into(), (found.into(), None)));
    }

    pub(super) fn good(&mut self, what: &str, found: impl Into<String>) {
        self.0.push((Mark::Good, what.into(), (found.into(), None)));
    }

    /// It works, and somebody should know.
    pub(super) fn notable(&mut self, what: &str, found: impl Into<String>) {
        self.0.push((Mark::Notable, what.into(), (found.into(), None)));
    }

    pub(super) fn failed(&mut self, what: &str, found: &str, fix: &str) {
        self.0.push((Mark::Bad, what.into(), (found.into(), Some(fix.into()))));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.iter().any(|(mark, ..)| matches!(mark, Mark::Bad))
    }

    pub(super) fn print(&self) {
        for (mark, what, found) in &self.0 {
            let mark = match mark {
                Mark::Step => '·',
                Mark::Good => '✓',
                Mark::Notable => '‼',
                Mark::Bad => '✗',
            };
            let (found, fix) = found;
            complain!(" {mark} {what:<14} {}", Visible(found));
            if let Some(fix) = fix {
                complain!("                  fix: {}", Visible(fix));
            }
        }
    }
}
