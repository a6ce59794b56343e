//! The author of a change: the events of the watch, joined with the questions of admission.
//!
//! Admission is asked about attempts, and some of them fail; only the watch makes changes. An attempt lends a change
//! its person where it is the one that led there: a creation by the uid that the API server gave it, an update and a
//! deletion by the uid and the resource version that they began with, and an update also by what it made of the object.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use idm_audit::Evidence;
use idm_diff::Digest;
use idm_types::Uptime;

/// Attempts are forgotten after this time, in milliseconds: the watch may have to be built up anew in between.
const REMEMBERED_MS: u64 = 120_000;
/// A change without an attempt waits for one that comes late, in milliseconds.
pub(crate) const GRACE_MS: u64 = 1_500;
/// Attempts that are remembered in sum, and of one person: who floods pushes out their own.
const MOST: usize = 40_000;
const MOST_OF_ONE: usize = 10_000;

/// A person or a workload, as the API server authenticated it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
}

/// The effect that an attempt would have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Make an object.
    Create,
    /// Give an object this content.
    Update {
        /// The digest of the content.
        to: Digest,
        /// It takes the last finalizer from an object that is being deleted: the object ends with it.
        ends: bool,
    },
    /// Delete an object, or ask its finalizers to.
    Delete,
}

/// An attempt that admission was asked about.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) uid: String,
    /// The resource version of the object before it; empty for a creation.
    pub(crate) base: String,
    pub(crate) attempt: Attempt,
    pub(crate) person: Arc<Person>,
    /// The field manager that the client named.
    pub(crate) manager: String,
}

/// The fate of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Became {
    /// It exists.
    Created,
    /// It has this content.
    Updated {
        /// The digest of the content.
        to: Digest,
        /// It is being deleted, and was not before.
        ending: bool,
    },
    /// It is gone.
    Deleted,
}

/// A change, as far as its author matters.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) uid: String,
    /// The resource version before it, if nothing between the two can have been missed.
    pub(crate) base: Option<String>,
    pub(crate) became: Became,
}

/// The author of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Author {
    /// [`Evidence::Authenticated`] or [`Evidence::Inferred`].
    pub(crate) evidence: Evidence,
    /// One, or all who may have been it.
    pub(crate) persons: Vec<Arc<Person>>,
    pub(crate) manager: String,
}

/// The attempts of the last two minutes.
#[derive(Default)]
pub(crate) struct Attempts {
    by_uid: HashMap<String, Vec<(u64, Note)>>,
    /// In the order of their arrival: number, time, object and person.
    order: VecDeque<(u64, Uptime, String, String)>,
    of_person: HashMap<String, usize>,
    next: u64,
}

impl Attempts {
    /// Remembers an attempt.
    pub(crate) fn add(&mut self, note: Note, now: Uptime) {
        self.forget(now);
        let name = note.person.name.clone();
        if self.of_person.get(&name).is_some_and(|count| *count >= MOST_OF_ONE) {
            let oldest = self.order.iter().position(|(.., person)| *person == name);
            oldest.and_then(|at| self.order.remove(at)).into_iter().for_each(|entry| self.drop_one(entry));
        }
        if self.order.len() >= MOST {
            self.order.pop_front().into_iter().for_each(|entry| self.drop_one(entry));
        }
        let number = self.next;
        self.next += 1;
        self.order.push_back((number, now, note.uid.clone(), name.clone()));
        *self.of_person.entry(name).or_default() += 1;
        self.by_uid.entry(note.uid.clone()).or_default().push((number, note));
    }

    fn forget(&mut self, now: Uptime) {
        while self.order.front().is_some_and(|(_, since, ..)| now.since(*since) > REMEMBERED_MS) {
            self.order.pop_front().into_iter().for_each(|entry| self.drop_one(entry));
        }
    }

    fn drop_one(&mut self, (number, _, uid, person): (u64, Uptime, String, String)) {
        if let Some(notes) = self.by_uid.get_mut(&uid) {
            notes.retain(|(other, _)| *other != number);
            if notes.is_empty() {
                self.by_uid.remove(&uid);
            }
        }
        if let Some(count) = self.of_person.get_mut(&person) {
            *count -= 1;
            if *count == 0 {
                self.of_person.remove(&person);
            }
        }
    }

    /// The author of this change; `None` while no attempt fits it.
    pub(crate) fn author(&self, of: &Subject) -> Option<Author> {
        let notes = self.by_uid.get(&of.uid)?;
        let fits = |note: &&Note| match (note.attempt, of.became) {
            (Attempt::Create, Became::Created) => true,
            (Attempt::Update { to, .. }, Became::Updated { to: is, .. }) => to == is,
            (Attempt::Update { ends, .. }, Became::Deleted) => ends,
            (Attempt::Delete, Became::Updated { ending, .. }) => ending,
            (Attempt::Delete, Became::Deleted) => true,
            _ => false,
        };
        // A uid is given once: an attempt to create it is the one that did.
        let exact = |note: &&Note| note.attempt == Attempt::Create || of.base.as_ref() == Some(&note.base);
        let fitting: Vec<&Note> = notes.iter().map(|(_, note)| note).filter(fits).collect();
        let exactly: Vec<&Note> = fitting.iter().copied().filter(exact).collect();
        let is_exact = !exactly.is_empty();
        // An attempt that began with another version than a known one before has nothing to do with it.
        let chosen = if is_exact || of.base.is_some() { exactly } else { fitting };
        let mut persons: Vec<_> = chosen.iter().map(|note| note.person.clone()).collect();
        persons.sort();
        persons.dedup();
        let evidence = if is_exact && persons.len() == 1 { Evidence::Authenticated } else { Evidence::Inferred };
        let manager = chosen.last()?.manager.clone();
        Some(Author { evidence, persons, manager })
    }
}

#[cfg(test)]
mod tests;
