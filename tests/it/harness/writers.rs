//! Writers that go on until the server is gone, and know what was acknowledged.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
};

use futures_util::future::join_all;
use serde_json::json;

use super::{fixtures::secrets_of, rest::Rest};

/// Writers that each set three keys of their own to one number, again and again until the server is gone.
pub(crate) struct Writers {
    /// The last number that was sent, and the last that was acknowledged.
    told: RefCell<Vec<(u64, u64)>>,
    total: Cell<usize>,
}

// === impl Writers ===

impl Writers {
    pub(crate) fn new(count: usize) -> Self {
        Self { told: RefCell::new(vec![(0, 0); count]), total: Cell::new(0) }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.total.get()
    }

    pub(crate) async fn run(&self, rest: &Rest, agent: &str) {
        let count = self.told.borrow().len();
        join_all((0..count).map(|writer| self.write(rest, agent, writer))).await;
    }

    async fn write(&self, rest: &Rest, agent: &str, writer: usize) {
        for number in 1.. {
            self.told.borrow_mut()[writer].0 = number;
            let secrets: HashMap<_, _> =
                keys(writer).into_iter().map(|key| (key, number.to_string())).collect();
            let call = rest.patch(&secrets_of(agent)).json(&json!({"secrets": secrets}));
            match call.try_send().await {
                Ok(answer) if answer.status == 200 => {
                    self.told.borrow_mut()[writer].1 = number;
                    self.total.set(self.total.get() + 1);
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{}", answer.text());
                    return;
                }
                Err(_cut) => return,
            }
        }
    }

    /// What each has had acknowledged so far.
    pub(crate) fn so_far(&self) -> Vec<u64> {
        self.told.borrow().iter().map(|(_, acknowledged)| *acknowledged).collect()
    }

    /// Every acknowledged write is there, or the one that was under way after it; and each as a whole.
    pub(crate) fn check(&self, values: &HashMap<String, String>) {
        self.check_from(&self.so_far(), values);
    }

    /// Every write that was acknowledged at some time is there, or a later one; and each as a whole.
    pub(crate) fn check_from(&self, acknowledged: &[u64], values: &HashMap<String, String>) {
        for (writer, ((sent, _), acknowledged)) in self.told.borrow().iter().zip(acknowledged).enumerate() {
            let found: HashSet<u64> = keys(writer)
                .iter()
                .map(|key| values.get(key).map_or(0, |value| value.parse().expect("a number")))
                .collect();
            let found: Vec<_> = found.into_iter().collect();
            assert!(
                matches!(found[..], [number] if (*acknowledged..=*sent).contains(&number)),
                "writer {writer}: {acknowledged} was acknowledged, {sent} sent, and found: {found:?}"
            );
        }
    }
}

fn keys(writer: usize) -> [String; 3] {
    ["A", "B", "C"].map(|key| format!("{key}_{writer}"))
}
