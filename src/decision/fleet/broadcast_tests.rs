//! Tests of the fleet over a bus.

use super::*;
use crate::fleet::lease::{Shares, Use};

fn at(seconds: f64) -> Timestamp {
    Timestamp::START.plus(Duration::from_secs_f64(seconds))
}

fn member(instance: &str) -> Publisher {
    Publisher { scope: Scope::Member, site: "a".to_owned(), instance: instance.to_owned() }
}

fn summing(site: &str, instance: &str) -> Publisher {
    Publisher { scope: Scope::Site, site: site.to_owned(), instance: instance.to_owned() }
}

fn own() -> Identity {
    Identity { site: "a".to_owned(), incarnation: 5, instance: "m:1".to_owned() }
}

/// A report as it is broadcast: the subject names the publisher.
fn report(incarnation: u64, sequence: u64) -> Report {
    let by = Identity { incarnation, ..Identity::default() };
    Report { by, sequence, members: 1, expected: 1, ..Report::default() }
}

#[test]
fn a_subject_names_its_sender() {
    for (publisher, subject) in [
        (member("gw-1.example:9901"), "t.f.member.a.gw-1~example:9901"),
        (summing("eu.west", "[::1]:9901"), "t.f.site.eu~west.[::1]:9901"),
    ] {
        assert_eq!(publisher.subject("t.f"), subject);
        assert_eq!(Publisher::read("t.f", subject), Some(publisher));
    }
    assert_eq!(subjects("t.f", "eu.west"), ["t.f.member.eu~west.*", "t.f.site.*.*"]);
    for subject in [
        "t.f.member.a",
        "t.f.member.a.b.c",
        "t.f.other.a.b",
        "t.g.member.a.b",
        "t.fmember.a.b",
        "t.f.member..b",
        "t.f.member.a.<b>",
        "t.f.site.a b.c",
        "t.f.site.a.~\u{e9}",
        "",
    ] {
        assert_eq!(Publisher::read("t.f", subject), None, "{subject}");
    }
}

#[test]
fn who_names_another_proxy_or_site_is_refused() {
    let mut members = Members::default();
    let mut hear = |publisher: &Publisher, by: Identity| {
        let report = Report { by, ..report(1, 1) };
        members.merge_published(publisher, &own(), report, at(1.0))
    };
    let by = |site: &str, instance: &str| Identity {
        site: site.to_owned(),
        incarnation: 1,
        instance: instance.to_owned(),
    };
    assert_eq!(hear(&member("p:1"), by("", "")), Ok(Merged::News));
    assert_eq!(hear(&member("p:1"), by("a", "p:1")), Ok(Merged::Known));
    assert_eq!(hear(&member("p:1"), by("b", "")), Err(Refused::Site));
    assert_eq!(hear(&member("p:1"), by("", "q:1")), Err(Refused::Instance));
    let elsewhere = Publisher { site: "b".to_owned(), ..member("p:1") };
    assert_eq!(hear(&elsewhere, by("", "")), Err(Refused::Site), "another site's member");
    assert_eq!(hear(&summing("a", "p:1"), by("", "")), Ok(Merged::Known), "our site's sum is ours");
    assert_eq!(hear(&member("m:1"), by("", "")), Err(Refused::Instance), "our name");
    let ours = Identity { incarnation: 5, ..by("", "") };
    assert_eq!(hear(&member("m:1"), ours), Ok(Merged::Own), "our own report");
    assert_eq!(hear(&summing("b", "m:1"), by("", "")), Ok(Merged::News), "a namesake elsewhere");
    assert_eq!(members.site(&Report { by: own(), ..report(1, 1) }, at(1.0)).members, 2);
    assert_eq!(members.other_site("b", at(1.0)).unwrap().report.by.instance, "m:1");
}

#[test]
fn old_broadcasts_are_refused_and_make_nobody_younger() {
    let mut members = Members::default();
    let mut hear = |incarnation: u64, sequence: u64, seconds: f64| {
        let publisher = member("p:1");
        let merged =
            members.merge_published(&publisher, &own(), report(incarnation, sequence), at(seconds));
        (merged, members.heard(&publisher.source()).unwrap().at)
    };
    assert_eq!(hear(7, 3, 1.0), (Ok(Merged::News), at(1.0)));
    assert_eq!(hear(7, 3, 2.0), (Ok(Merged::Known), at(1.0)));
    assert_eq!(hear(7, 2, 3.0), (Err(Refused::Stale), at(1.0)));
    assert_eq!(hear(6, 9, 3.0), (Err(Refused::Stale), at(1.0)));
    assert_eq!(hear(8, 1, 4.0), (Ok(Merged::News), at(4.0)));
}

#[test]
fn no_loan_travels_on_the_bus() {
    let mut members = Members::default();
    let one = |name: &str, units: u32| [(name.to_owned(), units)].into();
    let grants = [("c".to_owned(), one("m:1", 4))].into();
    let lender = Report { grants, wants: one("c", 8), ..report(1, 1) };

    members.merge_published(&member("p:1"), &own(), lender.clone(), at(10.0)).unwrap();

    let decide = |members: &Members| {
        let mut shares = Shares::default();
        let uses = [Use { name: "c".to_owned(), total: 16, now: 16 }];
        shares.decide(&uses, (members, &own(), 2), at(10.0)).remove(0).borrowed
    };
    assert_eq!(decide(&members), 0);
    // The same report, as the answer to a question: a loan.
    let asked = Report { by: Identity { instance: "p:1".to_owned(), ..own() }, ..lender };
    members.merge("https://p:1", "a", &own(), asked, at(10.0)).unwrap();
    assert_eq!(decide(&members), 4);
}

#[test]
fn a_peer_that_is_asked_is_believed_before_its_broadcasts() {
    let mut members = Members::default();
    let asked = |sequence: u64| Report {
        by: Identity { incarnation: 1, instance: "p:1".to_owned(), ..own() },
        ..report(1, sequence)
    };
    let on_bus = member("p:1").source();
    members.merge_published(&member("p:1"), &own(), report(1, 1), at(1.0)).unwrap();
    assert!(members.heard(&on_bus).is_some());
    assert_eq!(members.merge("https://p:1", "a", &own(), asked(2), at(1.5)), Ok(Merged::News));
    assert_eq!(members.heard(&on_bus), None, "one proxy is counted once");
    let heard = members.merge_published(&member("p:1"), &own(), report(1, 3), at(2.0));
    assert_eq!((heard, members.heard(&on_bus)), (Ok(Merged::Known), None));
    let later = at(1.5).plus(LIVE).plus(Duration::from_millis(1));
    let heard = members.merge_published(&member("p:1"), &own(), report(1, 9), later);
    assert_eq!(heard, Ok(Merged::News), "the peer is silent, and its broadcasts are not");
}

#[test]
fn a_flood_neither_displaces_those_that_are_heard_nor_uses_up_what_is_read_of_them() {
    let mut members = Members::default();
    let mut intake = Intake::default();
    let honest = member("honest:1");
    members.merge_published(&honest, &own(), report(1, 1), at(0.0)).unwrap();
    let (mut admitted, mut merged) = (0, 0);
    for number in 0..100_000_u32 {
        let now = at(f64::from(number) / 10_000.0);
        let forged = summing("b", &format!("f-{number}:1"));
        if intake.admit(&forged, &members, now).is_ok() {
            admitted += 1;
            match members.merge_published(&forged, &own(), report(1, 1), now) {
                Ok(_) => merged += 1,
                Err(reason) => assert_eq!(reason, Refused::Full),
            }
        }
        if number % 10_000 == 0 {
            assert_eq!(intake.admit(&honest, &members, now), Ok(()), "{number}");
            let sequence = u64::from(number) + 2;
            let heard = members.merge_published(&honest, &own(), report(1, sequence), now);
            assert_eq!(heard, Ok(Merged::News));
        }
    }
    assert!((1_100..=1_160).contains(&admitted), "512 at once and 64 a second: {admitted}");
    assert!(merged > 512 && members.published().count() <= PUBLISHERS_MAX, "{merged}");
    assert!(members.heard(&honest.source()).is_some());
    // A known publisher that floods is read at its rate.
    let read = (0..10_000_u32).filter(|number| {
        intake.admit(&honest, &members, at(10.0 + f64::from(*number) / 10_000.0)).is_ok()
    });
    let read = read.count();
    assert!((33..=37).contains(&read), "{read}");
}

#[test]
fn one_live_proxy_speaks_for_its_site_and_a_second_one_in_its_stead() {
    let mut members = Members::default();
    for (instance, is_leaving, seconds) in
        [("a:1", false, 9.0), ("b:1", true, 9.0), ("c:1", false, 1.0), ("x:1", false, 9.0)]
    {
        let said = Report { leaving: is_leaving, ..report(1, 1) };
        members.merge_published(&member(instance), &own(), said, at(seconds)).unwrap();
    }
    let speaks = |members: &Members, instance: &str, is_leaving: bool| {
        let own = Identity { instance: instance.to_owned(), ..own() };
        members.sum_due_after(&own, is_leaving, at(10.0))
    };
    // Live and staying: a and x.
    assert_eq!(speaks(&members, "0:1", false), Some(FIRST_AFTER));
    assert_eq!(speaks(&members, "m:1", false), Some(SECOND_AFTER));
    assert_eq!(speaks(&members, "y:1", false), None, "a third one");
    assert_eq!(speaks(&members, "0:1", true), None, "one that leaves");
    assert_eq!(speaks(&Members::default(), "m:1", true), Some(FIRST_AFTER), "a lone one");
    assert!(SECOND_AFTER + Duration::from_secs(2) < SITE_LIVE, "the news does not go stale");
}

#[test]
fn who_is_gone_is_forgotten_and_a_site_keeps_its_last_news() {
    let mut members = Members::default();
    let mut hear = |publisher: Publisher, is_leaving: bool, seconds: f64| {
        let said = Report { leaving: is_leaving, ..report(1, 1) };
        members.merge_published(&publisher, &own(), said, at(seconds)).unwrap();
    };
    hear(member("p:1"), false, 0.0);
    hear(member("q:1"), true, 1.0);
    hear(summing("b", "x:1"), false, 0.0);
    hear(summing("b", "y:1"), false, 1.0);
    hear(summing("c", "z:1"), false, 1.0);
    let mut known = |seconds: f64| {
        members.forget_silent("a", at(seconds));
        let names = members.published().map(|(_, heard)| heard.report.by.instance.clone());
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(known(4.0), "p:1 q:1 x:1 y:1 z:1");
    assert_eq!(known(5.0), "p:1 x:1 y:1 z:1", "q left");
    assert_eq!(known(6.5), "p:1 y:1 z:1", "y speaks for b");
    assert_eq!(known(600.0), "p:1 y:1 z:1");
    assert_eq!(known(601.0), "y:1 z:1");
}
