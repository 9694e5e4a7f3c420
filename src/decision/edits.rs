//! Edits of header fields, by listener, service and route.
//!
//! The edits of the three levels are merged when the plan is built: the listener's apply first, then the service's,
//! then the route's. A request reads one merged value.

use super::index::ListenerIndex;
use super::template::Template;
use std::sync::Arc;

/// Edits of a head, in order: remove, set, add.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Names to remove, in lower case; also the names of composed fields that replace others.
    pub remove: Vec<String>,
    /// Constant fields that replace all fields of the same name.
    pub set: Vec<(String, String)>,
    /// Constant fields to append.
    pub add: Vec<(String, String)>,
    /// Fields with variables, to append.
    pub composed: Vec<(String, Template)>,
}

impl Edits {
    /// Whether fields of this (lower-case) name are removed or replaced.
    #[must_use]
    pub fn drops(&self, name: &str) -> bool {
        self.remove.iter().any(|known| known == name)
            || self.set.iter().any(|(known, _)| known == name)
    }

    /// Whether there is nothing to edit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Edits::default()
    }

    /// The edits of `wider`, then these.
    #[must_use]
    pub fn after(&self, wider: &Edits) -> Edits {
        fn kept<T: Clone>(own: &Edits, fields: &[(String, T)]) -> Vec<(String, T)> {
            fields.iter().filter(|(name, _)| !own.drops(name)).cloned().collect()
        }
        let mut all = Edits {
            remove: wider.remove.clone(),
            set: kept(self, &wider.set),
            add: kept(self, &wider.add),
            composed: kept(self, &wider.composed),
        };
        let further = self.remove.iter().filter(|name| !wider.remove.contains(name));
        all.remove.extend(further.cloned());
        all.set.extend_from_slice(&self.set);
        all.add.extend_from_slice(&self.add);
        all.composed.extend_from_slice(&self.composed);
        all
    }
}

/// Merged edits, for each listener.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ByListener {
    /// For listeners without edits.
    general: Arc<Edits>,
    /// For listeners with edits.
    particular: Vec<(ListenerIndex, Arc<Edits>)>,
}

impl ByListener {
    /// `own` after the edits of each listener. `listeners` are those that have edits.
    #[must_use]
    pub fn new(own: Edits, listeners: &[(ListenerIndex, Arc<Edits>)]) -> ByListener {
        let particular = listeners.iter().map(|(listener, wider)| {
            // Most routes have no edits: they share those of the listener.
            let merged = match own.is_empty() {
                true => wider.clone(),
                false => Arc::new(own.after(wider)),
            };
            (*listener, merged)
        });
        ByListener { particular: particular.collect(), general: Arc::new(own) }
    }

    /// The edits for requests of this listener.
    #[must_use]
    pub fn at(&self, listener: ListenerIndex) -> &Edits {
        let found = self.particular.iter().find(|(index, _)| *index == listener);
        found.map_or(&self.general, |(_, edits)| edits)
    }
}

#[cfg(test)]
mod tests {
    use super::super::template::Purpose;
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |word: &str| word.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
        text.split_whitespace().filter_map(pair).collect()
    }

    fn edits(remove: &str, set: &str, add: &str) -> Edits {
        Edits {
            remove: remove.split_whitespace().map(str::to_owned).collect(),
            set: pairs(set),
            add: pairs(add),
            composed: Vec::new(),
        }
    }

    #[test]
    fn a_route_overrides_its_service_and_adds_to_it() {
        let wider = edits("a", "b=1 c=1 d=1", "e=1 f=1");
        let own = edits("b e", "c=2", "d=2");

        assert_eq!(own.after(&wider), edits("a b e", "d=1 c=2", "f=1 d=2"));
        assert_eq!(Edits::default().after(&wider), wider);
        assert_eq!(own.after(&Edits::default()), own);
    }

    #[test]
    fn composed_fields_are_overridden_like_constant_ones() {
        let host = Template::parse("{host}", Purpose::Field).unwrap();
        let composed = |names: &[&str]| {
            let fields = names.iter().map(|name| ((*name).to_owned(), host.clone()));
            Edits { composed: fields.collect(), ..edits("", "", "") }
        };
        let wider = composed(&["a", "b", "c"]);

        assert_eq!(edits("a", "b=1", "").after(&wider).composed, composed(&["c"]).composed);
        assert_eq!(composed(&["d"]).after(&wider).composed.len(), 4);
    }

    #[test]
    fn each_listener_has_its_own_edits() {
        let (first, second) = (ListenerIndex(0), ListenerIndex(1));
        let of_listener = Arc::new(edits("", "x=1", ""));
        let merged = ByListener::new(edits("", "y=1", ""), &[(second, of_listener.clone())]);

        assert_eq!(merged.at(first), &edits("", "y=1", ""));
        assert_eq!(merged.at(second), &edits("", "x=1 y=1", ""));
        let shared = ByListener::new(Edits::default(), &[(second, of_listener.clone())]);
        assert!(std::ptr::eq(shared.at(second), &*of_listener));
    }
}
