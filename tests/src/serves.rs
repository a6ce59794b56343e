use std::net::SocketAddr;

use serde_json::Value;

use crate::Gateway;

/// The functions that both drivers have, so that a test says in one place which of them it uses.
pub trait Serves: Sized {
    /// Serves these files.
    fn start(files: &[(&str, &str)]) -> Self {
        Self::start_with(files, &[])
    }
    /// Serves these files with further arguments of `idm run`.
    fn start_with(files: &[(&str, &str)], arguments: &[&str]) -> Self;
    /// The address by which [`raw`](crate::raw()) and browsers reach it.
    fn address(&self) -> SocketAddr;
    /// Writes a file of the served folder anew.
    fn write(&self, name: &str, text: &str);
    /// A file of the served folder.
    fn read(&self, name: &str) -> String;
    /// All records so far.
    fn records(&self) -> Vec<Value>;
    /// The one record of a decision.
    fn record(&self, id: &str) -> Value;
    /// The log so far, at trace level.
    fn log(&self) -> String;
}

impl Serves for Gateway {
    fn start_with(files: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start_with(files, arguments)
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn write(&self, name: &str, text: &str) {
        self.write(name, text);
    }

    fn read(&self, name: &str) -> String {
        self.read(name)
    }

    fn records(&self) -> Vec<Value> {
        self.records()
    }

    fn record(&self, id: &str) -> Value {
        self.record(id)
    }

    fn log(&self) -> String {
        self.log()
    }
}
