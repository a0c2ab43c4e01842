//! Time zone abbreviations of the server's set "Default" whose offset is fixed, and the names of the others.
//!
//! `timezone_abbreviations` is not known here. The sets "India" and "Australia" give some names other meanings;
//! those, and the names whose offset depends on the date, are not answered for.

/// What an abbreviation means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abbreviation {
    /// Seconds east of UTC; whether it is summer time.
    Fixed(i64, bool),
    /// Depends on a setting or on the date.
    Depends,
}

/// The meaning of a word in lower case.
pub(super) fn find(word: &str) -> Option<Abbreviation> {
    use Abbreviation::{Depends, Fixed};
    Some(match word {
        "hst" | "taht" => Fixed(-36000, false),
        "mart" => Fixed(-34200, false),
        "akst" | "gamt" => Fixed(-32400, false),
        "pst" => Fixed(-28800, false),
        "akdt" => Fixed(-28800, true),
        "mst" => Fixed(-25200, false),
        "pdt" => Fixed(-25200, true),
        "galt" => Fixed(-21600, false),
        "mdt" => Fixed(-21600, true),
        "act" | "cot" | "pet" => Fixed(-18000, false),
        "cdt" => Fixed(-18000, true),
        "amt" | "ast" | "bot" => Fixed(-14400, false),
        "edt" => Fixed(-14400, true),
        "nft" | "nst" => Fixed(-12600, false),
        "bra" | "brt" | "gft" | "pmst" | "uyt" | "wgt" => Fixed(-10800, false),
        "adt" | "clst" | "pyst" => Fixed(-10800, true),
        "ndt" => Fixed(-9000, true),
        "fnt" => Fixed(-7200, false),
        "brst" | "pmdt" | "uyst" | "wgst" => Fixed(-7200, true),
        "azot" | "egt" => Fixed(-3600, false),
        "fnst" => Fixed(-3600, true),
        "gmt" | "uct" | "ut" | "utc" | "wet" | "z" | "zulu" => Fixed(0, false),
        "azost" | "egst" => Fixed(0, true),
        "cet" | "met" | "mez" | "wat" => Fixed(3600, false),
        "bst" | "wetdst" => Fixed(3600, true),
        "eet" => Fixed(7200, false),
        "bdst" | "cest" | "cetdst" | "mest" | "mesz" | "metdst" => Fixed(7200, true),
        "eat" | "fet" => Fixed(10800, false),
        "eest" | "eetdst" | "idt" => Fixed(10800, true),
        "irt" => Fixed(12600, false),
        "mut" | "ret" | "sct" => Fixed(14400, false),
        "msd" => Fixed(14400, true),
        "aft" => Fixed(16200, false),
        "mvt" | "pkt" | "tft" | "tjt" | "uzt" => Fixed(18000, false),
        "must" => Fixed(18000, true),
        "npt" => Fixed(20700, false),
        "almt" | "bdt" | "btt" | "xjt" => Fixed(21600, false),
        "kgst" | "pkst" | "uzst" | "yekst" => Fixed(21600, true),
        "mmt" => Fixed(23400, false),
        "cxt" | "ict" | "wast" => Fixed(25200, false),
        "almst" => Fixed(25200, true),
        "awst" | "bnt" | "bort" | "cct" | "hkt" | "myt" | "pht" => Fixed(28800, false),
        "wadt" => Fixed(28800, true),
        "acwst" => Fixed(31500, false),
        "jayt" | "jst" | "kst" | "pwt" => Fixed(32400, false),
        "awsst" | "ulast" | "wdt" => Fixed(32400, true),
        "acst" | "cast" => Fixed(34200, false),
        "aest" | "chut" | "ddut" | "ligt" | "mpt" | "pgt" | "trut" | "yapt" => Fixed(36000, false),
        "kdt" => Fixed(36000, true),
        "lhst" => Fixed(37800, false),
        "acdt" | "acsst" | "cadt" | "sadt" => Fixed(37800, true),
        "pont" | "vut" => Fixed(39600, false),
        "aedt" | "aesst" => Fixed(39600, true),
        "fjt" | "gilt" | "mht" | "nzst" | "nzt" | "tvt" | "wakt" | "wft" => Fixed(43200, false),
        "chast" => Fixed(45900, false),
        "tot" => Fixed(46800, false),
        "fjst" | "nzdt" => Fixed(46800, true),
        "chadt" => Fixed(49500, true),
        "amst" | "anast" | "anat" | "arst" | "art" | "azst" | "azt" | "ckt" | "clt" | "cst"
        | "davt" | "easst" | "east" | "est" | "fkst" | "fkt" | "gest" | "get" | "gyt" | "iot"
        | "irkst" | "irkt" | "ist" | "kgt" | "kost" | "krast" | "krat" | "lhdt" | "lint"
        | "lkt" | "magst" | "magt" | "mawt" | "msk" | "novst" | "novt" | "nut" | "omsst"
        | "omst" | "petst" | "pett" | "pyt" | "sast" | "sgt" | "tkt" | "tmt" | "ulat" | "vet"
        | "vlast" | "vlat" | "volt" | "yakst" | "yakt" | "yekt" => Depends,
        _ => return None,
    })
}
