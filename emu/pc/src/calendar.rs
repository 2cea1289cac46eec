//! Dates of the Gregorian calendar, as the clock chip shows them.

/// A date and a time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DateTime {
    /// The year, all four digits.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Default for DateTime {
    /// The start of the year 2000, a Saturday.
    fn default() -> Self {
        DateTime { year: 2000, month: 1, day: 1, hour: 0, minute: 0, second: 0 }
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the start of year 0 to the start of `year`.
fn days_before(year: i64) -> i64 {
    if year <= 0 {
        return 365 * year;
    }
    let y = year - 1;
    year * 365 + y / 4 - y / 100 + y / 400 + 1
}

impl DateTime {
    /// Seconds since the start of year 0.
    pub fn to_seconds(self) -> i64 {
        let year = i64::from(self.year);
        let months: i64 = (1..self.month).map(|month| i64::from(days_in_month(year, month))).sum();
        let days = days_before(year) + months + i64::from(self.day) - 1;
        days * 86_400 + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second)
    }

    /// The date `seconds` after the start of year 0, which a clock that counts to 9999 starts over with.
    pub fn from_seconds(seconds: i64) -> DateTime {
        let seconds = seconds.rem_euclid(days_before(10_000) * 86_400);
        let (mut days, of_day) = (seconds / 86_400, seconds % 86_400);
        let mut year = days / 366;
        while days_before(year + 1) <= days {
            year += 1;
        }
        days -= days_before(year);
        let mut month = 1;
        while days >= i64::from(days_in_month(year, month)) {
            days -= i64::from(days_in_month(year, month));
            month += 1;
        }
        DateTime {
            year: year as u16,
            month,
            day: days as u8 + 1,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
        }
    }

    /// 1 for Sunday to 7 for Saturday.
    pub fn day_of_week(self) -> u8 {
        // The first day of year 0 of this calendar was a Saturday.
        (self.to_seconds().div_euclid(86_400) + 6).rem_euclid(7) as u8 + 1
    }

    /// Every field brought into its range.
    pub fn clamped(self) -> DateTime {
        let year = self.year.min(9999);
        let month = self.month.clamp(1, 12);
        DateTime {
            year,
            month,
            day: self.day.clamp(1, days_in_month(i64::from(year), month)),
            hour: self.hour.min(23),
            minute: self.minute.min(59),
            second: self.second.min(59),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: u16, month: u8, day: u8) -> DateTime {
        DateTime { year, month, day, ..DateTime::default() }
    }

    #[test]
    fn known_days_of_the_week_are_right() {
        // 1 January 1900 was a Monday, 1 January 1970 a Thursday, 1 January 2000 a Saturday, 29 February 2024 a Thursday.
        let known =
            [((1900, 1, 1), 2), ((1970, 1, 1), 5), ((2000, 1, 1), 7), ((2024, 2, 29), 5), ((1981, 8, 12), 4)];
        for ((year, month, day), weekday) in known {
            assert_eq!(date(year, month, day).day_of_week(), weekday, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn the_unix_epoch_is_62167219200_seconds_into_the_calendar() {
        assert_eq!(date(1970, 1, 1).to_seconds(), 62_167_219_200);
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        let mut seconds = date(1800, 1, 1).to_seconds() + 12_345;
        for _ in 0..146_097 {
            assert_eq!(DateTime::from_seconds(seconds).to_seconds(), seconds);
            seconds += 86_400;
        }
        assert_eq!(
            DateTime::from_seconds(seconds),
            DateTime { hour: 3, minute: 25, second: 45, ..date(2200, 1, 1) }
        );
    }

    #[test]
    fn the_day_after_28_february_depends_on_the_year() {
        for (year, day) in [(1900, (3, 1)), (2000, (2, 29)), (2023, (3, 1)), (2024, (2, 29))] {
            let next = DateTime::from_seconds(date(year, 2, 28).to_seconds() + 86_400);
            assert_eq!((next.month, next.day), day);
        }
    }

    #[test]
    fn any_bytes_make_a_date_once_clamped() {
        let wild = DateTime { year: 16_665, month: 0, day: 165, hour: 177, minute: 255, second: 99 };
        let tame = wild.clamped();
        assert_eq!(DateTime::from_seconds(tame.to_seconds()), tame);
    }
}
