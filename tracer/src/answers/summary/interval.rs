//! What came in between two sums.

use std::collections::{BTreeMap, HashMap};

use super::{ByClass, Explained, Summary, share};

impl Summary {
    /// What is in this sum, and was not yet in an earlier one. What the kernel divides can be divided anew meanwhile: less
    /// than before is none.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let known: HashMap<(&str, &str), &Explained> =
            before.upstreams.iter().map(|it| ((it.proxy, it.upstream.as_str()), it)).collect();
        let new = self.upstreams.iter().filter_map(|it| {
            let of = known.get(&(it.proxy, it.upstream.as_str()));
            let new = of.map_or_else(|| it.clone(), |of| it.since(of));
            (!new.is_empty()).then_some(new)
        });
        let failed = self.failed.saturating_sub(before.failed);
        let unexplained = self.unexplained.saturating_sub(before.unexplained).min(failed);
        let explained = failed - unexplained;
        let mut sum = Self {
            failed,
            explained,
            unexplained,
            succeeded: self.succeeded.saturating_sub(before.succeeded),
            share: share(explained, failed),
            lines_unknown: self.lines_unknown.saturating_sub(before.lines_unknown),
            tries_only: self.tries_only,
            upstreams: new.collect(),
            ..Self::default()
        };
        sum.sort();
        sum
    }
}

impl Explained {
    fn since(&self, before: &Self) -> Self {
        let known: HashMap<&str, &ByClass> = before.by.iter().map(|by| (by.class, by)).collect();
        let by = self.by.iter().map(|by| {
            known.get(by.class).map_or(*by, |of| ByClass {
                answers: by.answers.saturating_sub(of.answers),
                lines: by.lines.saturating_sub(of.lines),
                kernel: by.kernel.map(|now| now.saturating_sub(of.kernel.unwrap_or(0))),
                ..*by
            })
        });
        let statuses: BTreeMap<u16, u64> = (self.statuses.iter())
            .map(|(status, count)| {
                (*status, count - before.statuses.get(status).unwrap_or(&0).min(count))
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        Self {
            statuses,
            by: by.filter(|by| by.answers + by.lines + by.kernel.unwrap_or(0) > 0).collect(),
            unexplained: self.unexplained.saturating_sub(before.unexplained),
            ..self.clone()
        }
    }

    fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.by.is_empty() && self.unexplained == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(class: &'static str, answers: u64, kernel: Option<u64>) -> ByClass {
        ByClass { class, answers, lines: answers, kernel, inferred: false, kernel_shared: false }
    }

    fn upstream(name: &str, failed: u64, by: Vec<ByClass>) -> Explained {
        Explained {
            proxy: "nginx",
            upstream: name.to_owned(),
            statuses: BTreeMap::from([(502, failed)]),
            by,
            unexplained: 0,
        }
    }

    #[test]
    fn what_was_there_before_is_left_out() {
        let sum = |failed, upstreams| Summary {
            failed,
            explained: failed,
            share: Some(1.0),
            succeeded: 10 * failed,
            upstreams,
            ..Summary::default()
        };
        let before = sum(
            12,
            vec![
                upstream("a", 10, vec![by("refused", 10, Some(10))]),
                upstream("b", 2, vec![by("reset", 2, None)]),
            ],
        );
        let now = sum(
            29,
            vec![
                upstream(
                    "a",
                    15,
                    vec![by("refused", 9, Some(12)), by("ports-exhausted", 6, Some(6))],
                ),
                upstream("c", 12, vec![by("reset", 12, None)]),
                upstream("b", 2, vec![by("reset", 2, None)]),
            ],
        );
        let new = now.since(&before);
        assert_eq!((new.failed, new.explained, new.succeeded, new.share), (17, 17, 170, Some(1.0)));
        let expected = [
            upstream("c", 12, vec![by("reset", 12, None)]),
            upstream(
                "a",
                5,
                vec![
                    ByClass { answers: 0, lines: 0, ..by("refused", 0, Some(2)) },
                    by("ports-exhausted", 6, Some(6)),
                ],
            ),
        ];
        assert_eq!(new.upstreams, expected);
        let nothing = now.since(&now);
        assert_eq!((nothing.failed, nothing.share, nothing.upstreams.len()), (0, None, 0));
        assert_eq!(now.since(&Summary::default()).upstreams.len(), 3);
    }
}
