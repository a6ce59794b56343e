//! Records wherever they are kept: in a folder, or on a server.

use std::path::PathBuf;

use tokio::task::spawn_blocking;

use crate::{Cursor, Page, ReadError, RecordFilter, ServerReader, StoredRecord};

/// A place with records.
#[derive(Clone, Debug)]
pub enum Records {
    /// A spool.
    Folder(PathBuf),
    /// Elasticsearch or OpenSearch.
    Server(ServerReader),
}

impl Records {
    /// The record with this id.
    pub async fn find(&self, id: &str) -> Result<Option<StoredRecord>, ReadError> {
        match self {
            Self::Server(reader) => reader.find(id).await,
            Self::Folder(dir) => {
                let (dir, id) = (dir.clone(), id.to_owned());
                let found = spawn_blocking(move || crate::find(&dir, &id)).await;
                Ok(found.map_err(std::io::Error::other)??)
            }
        }
    }

    /// The newest records that were asked for before `before`, at most `limit` of them; see [`read`](crate::read).
    pub async fn page(&self, filter: &RecordFilter, before: Option<&Cursor>, limit: usize) -> Result<Page, ReadError> {
        match self {
            Self::Server(reader) => reader.page(filter, before, limit).await,
            Self::Folder(dir) => {
                let (dir, filter, before) = (dir.clone(), filter.clone(), before.cloned());
                let page = spawn_blocking(move || crate::read(&dir, &filter, before.as_ref(), limit)).await;
                page.map_err(std::io::Error::other)?
            }
        }
    }
}
