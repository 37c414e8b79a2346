//! Opening what the state directory holds. What cannot be opened, or has lost its rows, is kept in `recovered/`.

use std::path::Path;
use std::sync::Arc;

use super::Settings;
use super::core::InMemory;
use super::start::StartError;
use crate::cache::{Cache, Limits};
use crate::catalog::{Catalog, CatalogError};

/// The catalog's file in the state directory.
const CATALOG: &str = "catalog.db";

pub(super) fn state_dir_error(error: impl std::fmt::Display) -> StartError {
    StartError::StateDir(error.to_string())
}

pub(super) fn open_cache(state_dir: &Path, settings: &Settings) -> Result<Cache, StartError> {
    let limits = Limits { cache_size: settings.cache_size, min_free: settings.min_free };
    Cache::open(state_dir, limits).map_err(state_dir_error)
}

/// Opens the catalog; a damaged one is kept in `recovered/` with all data files, and a fresh one begins.
pub(super) fn open_catalog(
    dir: &Path,
    cache: &Cache,
    memory: &Arc<InMemory>,
) -> Result<Catalog, StartError> {
    let path = dir.join(CATALOG);
    let open = || Catalog::open_or_begin(&path, memory.clone(), || keep_nameless(cache));
    match open() {
        Err(StartError::Catalog(CatalogError::Corrupt { path: file, reason })) => {
            set_all_aside(dir, cache, &file, &reason)?;
            open()
        }
        other => other,
    }
}

/// Keeps the data files of a catalog that is gone: numbers begin anew, and another file would be given theirs.
fn keep_nameless(cache: &Cache) -> Result<(), StartError> {
    if cache.data_files().next().is_some() {
        tracing::error!("there is content and no catalog: all local content goes to recovered/");
    }
    keep_data_files(cache)
}

/// Keeps a damaged catalog and all data files in `recovered/`. The catalog goes last: whoever ends this before finds the
/// damage again.
pub(super) fn set_all_aside(
    dir: &Path,
    cache: &Cache,
    file: &str,
    reason: &str,
) -> Result<(), StartError> {
    tracing::error!(
        file,
        reason,
        "the catalog is damaged: it and all local content go to recovered/"
    );
    keep_data_files(cache)?;
    Catalog::set_aside(&dir.join(CATALOG), &dir.join("recovered")).map_err(|error| {
        StartError::StateDir(format!(
            "{file} is damaged ({reason}) and cannot be set aside: {error}"
        ))
    })?;
    Ok(())
}

fn keep_data_files(cache: &Cache) -> Result<(), StartError> {
    for found in cache.data_files() {
        cache.set_aside(found.ino, found.generation, b"").map_err(state_dir_error)?;
    }
    Ok(())
}
