#![allow(unused_variables, unused_imports)]
//! The decisions' view of a write transaction.

use super::{CatalogError, Tx};
use crate::model::{
    Attempt, Base, Edition, Handles, Ino, Name, Node, Observed, OutboxRow, Place, RemoteId, Rows,
    Tick,
};

impl Rows for Tx {
    type Error = CatalogError;

    fn node(&self, ino: Ino) -> Result<Option<Node>, CatalogError> {
        todo!()
    }

    fn resident(&self, place: &Place) -> Result<Option<Ino>, CatalogError> {
        todo!()
    }

    fn has_children(&self, folder: Ino) -> Result<bool, CatalogError> {
        todo!()
    }

    fn children(&self, folder: Ino) -> Result<Vec<Ino>, CatalogError> {
        todo!()
    }

    fn base(&self, ino: Ino) -> Result<Option<Base>, CatalogError> {
        todo!()
    }

    fn base_at(&self, place: &Place) -> Result<Option<Ino>, CatalogError> {
        todo!()
    }

    fn base_by_id(&self, id: &RemoteId) -> Result<Option<Ino>, CatalogError> {
        todo!()
    }

    fn base_children(&self, folder: Ino) -> Result<Vec<Ino>, CatalogError> {
        todo!()
    }

    fn outbox(&self, ino: Ino) -> Result<Option<OutboxRow>, CatalogError> {
        todo!()
    }

    fn attempts(&self) -> Result<Vec<(Ino, Attempt)>, CatalogError> {
        todo!()
    }

    fn missing(&self, ino: Ino) -> Result<Option<Tick>, CatalogError> {
        todo!()
    }

    fn look_again(&self, folder: Ino) -> Result<Option<Tick>, CatalogError> {
        todo!()
    }

    fn touched(&self, folder: Ino) -> Tick {
        todo!()
    }

    fn is_listing(&self, folder: Ino) -> bool {
        todo!()
    }

    fn is_needed(&self, folder: Ino) -> bool {
        todo!()
    }

    fn handles(&self, ino: Ino) -> Handles {
        todo!()
    }

    fn held(&self) -> Result<bool, CatalogError> {
        todo!()
    }

    fn is_excluded(&self, name: &Name) -> bool {
        todo!()
    }

    fn tick(&mut self) -> Result<Tick, CatalogError> {
        todo!()
    }

    fn new_node(&mut self, seen: &Observed) -> Result<Ino, CatalogError> {
        todo!()
    }

    fn succeed(&mut self, old: Ino) -> Result<Ino, CatalogError> {
        todo!()
    }

    fn set_local(&mut self, ino: Ino, place: Option<Place>) -> Result<(), CatalogError> {
        todo!()
    }

    fn set_base(&mut self, ino: Ino, base: Option<Base>) -> Result<(), CatalogError> {
        todo!()
    }

    fn become_placeholder(&mut self, ino: Ino, seen: &Observed) -> Result<Edition, CatalogError> {
        todo!()
    }

    fn revert_to(&mut self, ino: Ino, base: &Base) -> Result<(), CatalogError> {
        todo!()
    }

    fn set_outbox(&mut self, ino: Ino, row: OutboxRow) -> Result<(), CatalogError> {
        todo!()
    }

    fn drop_outbox(&mut self, ino: Ino) -> Result<(), CatalogError> {
        todo!()
    }

    fn set_missing(&mut self, ino: Ino, since: Option<Tick>) -> Result<(), CatalogError> {
        todo!()
    }

    fn set_look_again(&mut self, folder: Ino, since: Option<Tick>) -> Result<(), CatalogError> {
        todo!()
    }

    fn touch_folder(&mut self, folder: Ino) -> Result<(), CatalogError> {
        todo!()
    }

    fn need_list(&mut self, folder: Ino) {
        todo!()
    }

    fn set_held(&mut self, held: bool) -> Result<(), CatalogError> {
        todo!()
    }

    fn forget(&mut self, ino: Ino) -> Result<(), CatalogError> {
        todo!()
    }

    fn conflict_name(&mut self, place: &Place) -> Result<Place, CatalogError> {
        todo!()
    }

    fn note(&mut self, ino: Ino, what: &str) -> Result<(), CatalogError> {
        todo!()
    }
}
