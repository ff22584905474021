//! An answer of the server, read as it comes.

use std::{
    io::{self, Read},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use futures::{StreamExt, channel::mpsc, executor::block_on};

use super::{HistoryError, server::Server};

/// An answer read as it comes.
pub(super) struct Answer {
    pub(super) chunks: mpsc::Receiver<Result<Bytes, HistoryError>>,
    pub(super) now: Bytes,
    pub(super) ended: bool,
    pub(super) error: Option<HistoryError>,
    /// Its runtime carries the bytes.
    pub(super) _server: Arc<Server>,
}

impl Answer {
    /// What went wrong on the way, better told than by the error of [`Read`].
    pub fn take_error(&mut self) -> Option<HistoryError> {
        self.error.take()
    }
}

impl Read for Answer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() && !self.ended {
            match block_on(self.chunks.next()) {
                Some(Ok(chunk)) if chunk.is_empty() => self.ended = true,
                Some(Ok(chunk)) => self.now = chunk,
                Some(Err(e)) => {
                    self.error = Some(e);
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = self.now.len().min(buffer.len());
        self.now.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
